"""A real Flink cluster gives the bytes of a local run. Run by `make test-flink`; docs/flink.md says what runs where."""

import gzip
import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import apache_beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from flink_cluster import SLOTS, FlinkCluster, flink_cluster
from flink_jars import fetch_job_server
from small_job import SmallJob, build, digest

from tests.other_programs import UnavailableError

pytestmark = [pytest.mark.integration, pytest.mark.flink]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlinkCluster]:
    try:
        jars = fetch_job_server()
    except UnavailableError as error:
        pytest.skip(f"NOT run on Flink: {error}")
    if not jars.of_this_beam:
        warnings.warn(
            f"Maven Central, as seen from here, has no Flink job server of Beam {apache_beam.__version__}; "
            f"ran with {jars.artifact} {jars.beam_version} instead",
            stacklevel=1,
        )
    with flink_cluster(jars, tmp_path_factory.mktemp("flink")) as running:
        yield running
    assert [name for name, process in running.processes.items() if process.poll() is None] == []


def test_records_from_a_flink_cluster_are_those_of_a_local_run(
    cluster: FlinkCluster, job: SmallJob, tmp_path: Path
) -> None:
    finished = build([*cluster.beam_arguments, *job.arguments(tmp_path / "prepared")])
    assert finished.returncode == 0, f"{finished.stderr}\nlogs: {cluster.logs}"
    assert digest(tmp_path / "prepared") == job.local
    assert cluster.job_states()[-1] == "FINISHED", f"logs: {cluster.logs}"
    assert len(cluster.workers_started()) >= SLOTS, f"logs: {cluster.logs}"


def test_an_incremental_run_on_flink_gives_the_bytes_of_a_local_one(
    cluster: FlinkCluster, job: SmallJob, tmp_path: Path
) -> None:
    whole = pa.concat_tables(pq.read_table(path) for path in sorted((job.logs / "events").iterdir()))
    evening = int(np.quantile(whole["time"].to_numpy(), 0.9))
    new = pa.array(whole["time"].to_numpy() >= evening)
    pq.write_table(whole.filter(pc.invert(new)), tmp_path / "before.parquet")
    pq.write_table(whole.filter(new), tmp_path / "after.parquet")
    before = build([*job.arguments(tmp_path / "before"), f"--events={tmp_path}/before.parquet"])
    assert before.returncode == 0, before.stderr
    after = [f"--previous={tmp_path}/before", f"--events={tmp_path}/after.parquet"]
    local = build([*job.arguments(tmp_path / "local"), *after])
    assert local.returncode == 0, local.stderr
    finished = build([*cluster.beam_arguments, *job.arguments(tmp_path / "prepared"), *after])
    assert finished.returncode == 0, f"{finished.stderr}\nlogs: {cluster.logs}"
    assert digest(tmp_path / "prepared") == digest(tmp_path / "local")


def test_malformed_rows_are_counted_on_flink_and_the_rest_is_unharmed(
    cluster: FlinkCluster, job: SmallJob, tmp_path: Path
) -> None:
    damaged = _events_as_json(job, tmp_path / "damaged", broken=3)
    clean = _events_as_json(job, tmp_path / "clean", broken=0)
    finished = build([*cluster.beam_arguments, *job.arguments(tmp_path / "prepared"), f"--events={damaged}/*"])
    assert finished.returncode == 0, f"{finished.stderr}\nlogs: {cluster.logs}"
    local = build([*job.arguments(tmp_path / "local"), f"--events={clean}/*"])
    assert local.returncode == 0, local.stderr
    found, expected = digest(tmp_path / "prepared"), digest(tmp_path / "local")
    letters = sorted(name for name in found if name.startswith("dead_letters/"))
    lines = [line for name in letters for line in (tmp_path / "prepared" / name).read_text().splitlines()]
    assert [json.loads(line)["payload"] for line in lines] == ["{broken 0", "{broken 1", "{broken 2"]
    for name in ("manifest.json", "_SUCCESS", "report.json", "report.md"):  # they count the malformed rows
        assert found.pop(name) != expected.pop(name)
    assert {name: content for name, content in found.items() if name not in letters} == expected


def test_a_job_that_stops_itself_on_flink_says_why_and_leaves_no_output(
    cluster: FlinkCluster, job: SmallJob, tmp_path: Path
) -> None:
    damaged = _events_as_json(job, tmp_path / "damaged", broken=2000)
    finished = build([*cluster.beam_arguments, *job.arguments(tmp_path / "prepared"), f"--events={damaged}/*"])
    assert finished.returncode == 1
    assert "2000 of" in finished.stderr.splitlines()[-1], finished.stderr
    assert not (tmp_path / "prepared").exists()
    assert cluster.job_states()[-1] == "FAILED"


def _events_as_json(job: SmallJob, directory: Path, broken: int) -> Path:
    """The events as gzipped JSON Lines, the last file with some broken lines at its end."""
    directory.mkdir()
    paths = sorted((job.logs / "events").iterdir())
    for path in paths:
        text = "".join(json.dumps(row) + "\n" for row in pq.read_table(path).to_pylist())
        if path == paths[-1]:
            text += "".join(f"{{broken {number}\n" for number in range(broken))
        (directory / f"{path.stem}.jsonl.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
    return directory
