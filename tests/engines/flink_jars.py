"""The Flink job server of Beam, from Maven Central.

A job server is Beam's Flink runner, which takes a pipeline over gRPC and gives it to Flink. Its class path holds Flink
itself too, so the cluster's processes start from the same jars and can never be of another version.
"""

import dataclasses
import os
import re
import shutil
import subprocess
import uuid
from pathlib import Path

import apache_beam
from apache_beam.options.pipeline_options import FlinkRunnerOptions

CACHE = Path(os.environ.get("TWIN_TF_FLINK_CACHE") or Path(__file__).parents[2] / ".cache/flink")

_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>local</groupId><artifactId>job-server</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.beam</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-jdk14</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""


class UnavailableError(Exception):
    """No job server can be had here; the sentence says why."""


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
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            raise UnavailableError(f"{program} is not installed")
    if subprocess.run(["java", "--version"], capture_output=True).returncode != 0:
        raise UnavailableError("java is older than version 11")
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
    target = CACHE / f"{artifact}-{version}"
    if not target.is_dir():
        work = CACHE / f".{artifact}-{uuid.uuid4().hex[:8]}"
        work.mkdir(parents=True)
        try:
            (work / "pom.xml").write_text(_POM.format(artifact=artifact, version=version))
            command = ["mvn", "-q", "-B", "-ntp", "-Dstyle.color=never", _COPY, "-DincludeScope=runtime"]
            copied = subprocess.run(
                [*command, f"-DoutputDirectory={work}/jars"], cwd=work, capture_output=True, text=True, timeout=900
            )
            if copied.returncode != 0:
                said = re.findall(r"\[ERROR\] (\S.*)", copied.stdout)  # the line may begin with a colour
                return said[0] if said else f"mvn ended with {copied.returncode}: {copied.stderr.strip()}"
            (work / "jars").replace(target)
        except subprocess.TimeoutExpired:
            return "mvn took longer than 15 minutes"
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return JobServer(artifact, version, target)
