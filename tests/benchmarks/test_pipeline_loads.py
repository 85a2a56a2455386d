"""Loads are what the benchmark says of them, and the same every time."""

import json
from pathlib import Path

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from benchmarks.pipeline_loads import FIRST_SECOND, HOT_USER, SECONDS, Load, write_load


def test_the_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        write_load(tmp_path / name, Load(events=2_000, hot_events=500, seed=seed))
    one, two, other = ((tmp_path / name / "events/0000.parquet").read_bytes() for name in ("one", "two", "other"))
    assert one == two
    assert one != other


def test_the_log_holds_what_its_description_says(tmp_path: Path) -> None:
    load = Load(events=400_000, hot_events=100_000)
    write_load(tmp_path / "raw", load)
    files = sorted((tmp_path / "raw/events").iterdir())
    assert [path.name for path in files] == ["0000.parquet", "0001.parquet"]
    tables = [pq.read_table(path) for path in files]
    users = np.concatenate([table["user_id"].to_numpy() for table in tables])
    times = np.concatenate([table["ts"].to_numpy() for table in tables])
    targets = np.concatenate([table["target"].to_numpy() for table in tables])
    said = load.description()
    assert len(users) == said["events"] == 500_000
    assert len(np.unique(users)) == said["users"] == 2_001
    assert (users == HOT_USER).sum() == 100_000
    assert (np.diff(times) >= 0).all()
    assert FIRST_SECOND <= times[0] < times[-1] < FIRST_SECOND + SECONDS
    assert times[targets == 1].min() >= FIRST_SECOND + 0.8 * SECONDS - 1
    assert targets.mean() == pytest.approx(0.2 * 0.05, rel=0.05)
    assert tables[0]["surface"].null_count / tables[0].num_rows == pytest.approx(0.01, rel=0.2)


def test_every_format_holds_the_same_rows(tmp_path: Path) -> None:
    for format_ in ("parquet", "csv", "jsonl"):
        write_load(tmp_path / format_, Load(events=300, format=format_))
    rows = pq.read_table(tmp_path / "parquet/events/0000.parquet").to_pylist()
    lines = (tmp_path / "jsonl/events/0000.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows
    options = pyarrow.csv.ConvertOptions(strings_can_be_null=True)
    assert pyarrow.csv.read_csv(tmp_path / "csv/events/0000.csv", convert_options=options).to_pylist() == rows
