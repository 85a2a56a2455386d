"""What a run says of its shards before it starts."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_pipelines.examples import memory_needed
from beam_pipelines.examples.memory_needed import large_shards
from beam_pipelines.raw_logs.log_size import estimated_rows
from beam_pipelines.raw_logs.read_logs import LogFile, match_files

LINE = b'{"user": "u%06d", "item": 12345, "ts": 1700000000}\n'
ROWS = 20_000


@pytest.fixture
def files(tmp_path: Path) -> dict[str, list[LogFile]]:
    text = b"".join(LINE % number for number in range(ROWS))
    (tmp_path / "a.jsonl").write_bytes(text)
    (tmp_path / "b.jsonl").write_bytes(text[: len(text) // 2])
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(text))
    pq.write_table(pa.table({"user": range(ROWS)}), tmp_path / "d.parquet")
    (tmp_path / "e.parquet").write_bytes(b"no such thing")
    (tmp_path / "f.csv").write_bytes(b"")
    return {path.name: match_files("events", [str(path)]) for path in tmp_path.iterdir()}


def test_rows_are_estimated_from_the_largest_file(files: dict[str, list[LogFile]]) -> None:
    assert estimated_rows(files["a.jsonl"]) == pytest.approx(ROWS, rel=0.001)
    assert estimated_rows([*files["b.jsonl"], *files["a.jsonl"]]) == pytest.approx(1.5 * ROWS, rel=0.001)
    assert estimated_rows(files["c.jsonl.gz"]) == pytest.approx(ROWS, rel=0.1)
    assert estimated_rows(files["d.parquet"]) == ROWS


def test_what_cannot_be_told_is_not_said(files: dict[str, list[LogFile]]) -> None:
    assert estimated_rows(files["e.parquet"]) is None
    assert estimated_rows(files["f.csv"]) is None
    assert estimated_rows([LogFile(0, "bigquery://p.d.t", 1)]) is None
    assert large_shards(files["e.parquet"], 1) is None


def test_large_shards_are_named_with_what_to_do(
    files: dict[str, list[LogFile]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert large_shards(files["d.parquet"], 1) is None
    monkeypatch.setattr(memory_needed, "MOST_EVENTS_A_SHARD", 5_000)
    monkeypatch.setattr(memory_needed, "EVENTS_A_SHARD", 1_000)
    assert large_shards(files["d.parquet"], 4) is None
    said = large_shards(files["d.parquet"], 2)
    assert said is not None
    assert said.startswith("the events log has about 20,000 rows, so one worker thread holds about 10,000 events")
    assert "--shards=20" in said
