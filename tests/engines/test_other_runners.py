"""Beam's Prism and Spark runners give the bytes of a local run. Run by `make test-parts`; docs/other_programs.md."""

import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import apache_beam
import pytest
from small_job import SmallJob, build, digest
from spark_job_server import SparkJobServer, fetch_spark_runner, spark_job_server

from tests.other_programs import UnavailableError, program

pytestmark = [pytest.mark.integration, pytest.mark.parts]


def test_records_from_prism_are_those_of_a_local_run(job: SmallJob, tmp_path: Path) -> None:
    prism = program("prism")
    runner = ["--runner=PrismRunner", f"--prism_location={prism}"]
    finished = build([*runner, *job.arguments(tmp_path / "prepared")])
    assert finished.returncode == 0, finished.stderr
    assert digest(tmp_path / "prepared") == job.local


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkJobServer]:
    try:
        beam, jars = fetch_spark_runner()
    except UnavailableError as error:
        pytest.skip(f"NOT run on Spark: {error}")
    if beam != apache_beam.__version__:
        warnings.warn(
            f"Maven Central, as seen from here, has no Spark runner of Beam {apache_beam.__version__}; "
            f"ran with that of Beam {beam} instead",
            stacklevel=1,
        )
    with spark_job_server(jars, tmp_path_factory.mktemp("spark")) as running:
        yield running


def test_records_from_spark_are_those_of_a_local_run(spark: SparkJobServer, job: SmallJob, tmp_path: Path) -> None:
    finished = build([*spark.beam_arguments, *job.arguments(tmp_path / "prepared")])
    assert finished.returncode == 0, f"{finished.stderr}\nlogs: {spark.logs}"
    assert digest(tmp_path / "prepared") == job.local
    assert re.search(r'worker_id="([^"]+)"', (spark.logs / "worker_pool.log").read_text()), f"logs: {spark.logs}"
