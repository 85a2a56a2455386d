"""Beam's Spark runner on this machine: its job server with Spark inside, and a pool of Python workers.

Spark runs in the job server's process (`local[2]`), for its executors need an installed Spark; the Python steps run in
worker processes, as on a cluster. The jars come from Maven Central.
"""

import dataclasses
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apache_beam
from apache_beam.runners.portability.spark_runner import SPARK_JAR_JOB_SERVER_JVM_ARGS
from services import Services, free_ports, is_open

from tests.other_programs import CACHE, UnavailableError, copy_jars

SPARK = "3.5.0"
WORKERS = 2

_LOOPBACK = ["-Dspark.driver.bindAddress=127.0.0.1", "-Dspark.driver.host=127.0.0.1", "-Dspark.ui.enabled=false"]

# The runner leaves Spark to the cluster. Spark logs through slf4j 2, Beam's jars ask for 1.
_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>local</groupId><artifactId>job-server</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-api</artifactId><version>2.0.7</version></dependency>
    <dependency><groupId>org.apache.beam</groupId><artifactId>beam-runners-spark-3</artifactId><version>{beam}</version></dependency>
    <dependency><groupId>org.apache.spark</groupId><artifactId>spark-core_2.12</artifactId><version>{spark}</version></dependency>
    <dependency><groupId>org.apache.spark</groupId><artifactId>spark-streaming_2.12</artifactId><version>{spark}</version></dependency>
  </dependencies>
</project>
"""  # noqa: E501


@dataclasses.dataclass
class SparkJobServer(Services):
    """A running job server.

    Attributes:
        port: of Beam's job service.
        worker_pool: port of the pool that starts Python workers.
    """

    port: int
    worker_pool: int

    @property
    def beam_arguments(self) -> list[str]:
        """What makes Beam run on it."""
        return [
            "--runner=PortableRunner",
            f"--job_endpoint=localhost:{self.port}",
            "--environment_type=EXTERNAL",
            f"--environment_config=localhost:{self.worker_pool}",
            f"--sdk_worker_parallelism={WORKERS}",
            "--environment_cache_millis=60000",  # workers stay for the next stage
        ]


def fetch_spark_runner() -> tuple[str, Path]:
    """The Beam version of a Spark runner and its jars: of the Beam in use, or the one that this test was run with.

    Raises:
        UnavailableError: no java, no mvn, or Maven Central gives neither.
    """
    reason = None
    for beam in (apache_beam.__version__, "2.62.0"):
        try:
            target = CACHE / f"beam-{beam}-spark-{SPARK}"
            return beam, copy_jars(_POM.format(beam=beam, spark=SPARK), target)
        except UnavailableError as error:
            reason = reason or error
    raise UnavailableError(f"Maven Central did not give the Spark runner: {reason}")


@contextmanager
def spark_job_server(jars: Path, directory: Path) -> Iterator[SparkJobServer]:
    """Starts job server and worker pool, and stops them at the end, however the block ends.

    Raises:
        RuntimeError: a process ended or did not get ready; names the logs.
    """
    job, artifact, expansion, pool = free_ports(4)
    logs = directory / "logs"
    logs.mkdir(parents=True)
    server = SparkJobServer(logs, {}, job, pool)
    driver = ["-cp", f"{jars}/*", "org.apache.beam.runners.spark.SparkJobServerDriver"]
    options = ["--spark-master-url", f"local[{WORKERS}]", "--artifacts-dir", str(directory / "artifacts")]
    options += ["--job-host", "localhost", "--job-port", str(job)]
    options += ["--artifact-port", str(artifact), "--expansion-port", str(expansion)]
    try:
        server.start("job_server", ["java", *SPARK_JAR_JOB_SERVER_JVM_ARGS, *_LOOPBACK, "-Xmx1g", *driver, *options])
        worker_pool = "apache_beam.runners.worker.worker_pool_main"
        server.start("worker_pool", [sys.executable, "-m", worker_pool, f"--service_port={pool}"])
        server.wait("the job server", lambda: is_open(job) and is_open(artifact))
        server.wait("the worker pool", lambda: is_open(pool))
        yield server
    finally:
        server.stop()
