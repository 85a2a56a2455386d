"""The Flink job server of Beam, from Maven Central.

A job server is Beam's Flink runner, which takes a pipeline over gRPC and gives it to Flink. Its class path holds Flink
itself too, so the cluster's processes start from the same jars and can never be of another version.
"""

import dataclasses
import os
from pathlib import Path

import apache_beam
from apache_beam.options.pipeline_options import FlinkRunnerOptions

from tests.other_programs import UnavailableError, copy_jars

CACHE = Path(os.environ.get("TWIN_TF_FLINK_CACHE") or Path(__file__).parents[2] / ".cache/flink")

_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>local</groupId><artifactId>job-server</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.beam</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-jdk14</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""


@dataclasses.dataclass(frozen=True)
class JobServer:
    """A job server's jars."""

    artifact: str
    beam_version: str
    jars: Path

    @property
    def class_path(self) -> str:
        """For `java -cp`."""
        return str(self.jars / "*")

    @property
    def of_this_beam(self) -> bool:
        """Whether it is of the Beam version that is installed here."""
        return self.beam_version == apache_beam.__version__


def fetch_job_server() -> JobServer:
    """The job server of the Beam version in use, for the newest Flink 1.x there is one for.

    A partial mirror of Maven Central may lack it. The runner alone, with its dependencies, of the latest version that
    this test was run with comes last then: the protocol between SDK and runner is the same, and the caller says so.

    Raises:
        UnavailableError: no java, no mvn, or Maven Central gives none of these.
    """
    published = FlinkRunnerOptions.PUBLISHED_FLINK_VERSIONS
    lines = sorted((line for line in published if line.startswith("1.")), reverse=True)
    wanted = [(f"beam-runners-flink-{line}-job-server", apache_beam.__version__) for line in lines]
    reason = ""
    for artifact, version in [*wanted, ("beam-runners-flink-1.19", "2.62.0")]:
        found = _fetch(artifact, version)
        if isinstance(found, JobServer):
            return found
        reason = reason or found
    raise UnavailableError(f"Maven Central did not give {' or '.join(name for name, _ in wanted)}: {reason}")


def _fetch(artifact: str, version: str) -> JobServer | str:
    try:
        jars = copy_jars(_POM.format(artifact=artifact, version=version), CACHE / f"{artifact}-{version}")
    except UnavailableError as error:
        return str(error)
    return JobServer(artifact, version, jars)
