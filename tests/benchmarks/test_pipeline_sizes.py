"""The rows of many shards and extreme logs: what they are made of, and one small round of them by night."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.harness import OUT, ROOT, Run
from benchmarks.pipeline_loads import Load, write_load
from benchmarks.pipeline_sizes import EXTREMES, measure_shards, measure_sizes
from benchmarks.shuffle_bytes import shuffled

pytestmark = pytest.mark.integration


class FakeBench:
    """Says that a run takes a second and a megabyte a shard, and an event a byte a shard."""

    def __init__(self) -> None:
        self.loads: dict[str, dict[str, Any]] = {}

    def load(self, name: str, **numbers: Any) -> Any:
        self.loads[name] = numbers
        return name, {"events": numbers["events"] + numbers.get("hot_events", 0)}

    def build_examples(self, load: str, workers: int, shards: int = 8) -> Any:
        del load, workers
        return [Run(float(shards), 2.0 * shards, 3.0 * shards, float(shards))], {}

    def shuffle(self, load: str, shards: int) -> Any:
        return {"events": 10, "bytes": 10 * shards}


def test_ratios_are_of_2000_shards_by_8() -> None:
    _, figures = measure_shards(FakeBench(), 1)
    found = {figure.name: figure.value for figure in figures}
    for name in ("bytes", "time", "cpu"):
        assert found[f"{name}_ratio_2000_shards"] == 250
    assert (found["seconds_8_shards"], found["cpu_seconds_8_shards"], found["rss_mb_8_shards"]) == (8, 16, 24)
    assert found["shuffle_bytes_per_event_2000_shards"] == 2_000


def test_every_extreme_log_has_its_time_and_memory_and_scales() -> None:
    whole, small = FakeBench(), FakeBench()
    _, figures = measure_sizes(whole, 1)
    measure_sizes(small, 1_000)
    names = {figure.name for figure in figures}
    for name in EXTREMES:
        assert {f"seconds_{name}", f"rss_mb_{name}", f"bytes_an_event_{name}"} <= names
        assert small.loads[name]["events"] == max(1, whole.loads[name]["events"] // 1_000)
    users = whole.loads["million_users"]
    assert Load(users["events"], events_per_user=users["events_per_user"]).users == 1_000_000
    assert whole.loads["user_of_1e7"]["hot_events"] == 10_000_000
    assert whole.loads["daily_files"]["files"] == 365


def test_a_daily_file_holds_ten_megabytes(tmp_path: Path) -> None:
    events = EXTREMES["daily_files"].load["events"] // 365
    write_load(tmp_path / "raw", Load(events, files=1, format="jsonl"))
    (file,) = (tmp_path / "raw/events").iterdir()
    assert file.stat().st_size == pytest.approx(10_000_000, rel=0.02)


def test_an_event_costs_about_the_same_bytes_with_many_shards(tmp_path: Path) -> None:
    write_load(tmp_path / "raw", Load(100_000, text_columns=1, text_values=50_000))
    few, many = (shuffled(tmp_path / "raw", shards) for shards in (8, 200))
    assert few["events"] == many["events"] == 100_000
    assert 8 == few["batches"] < many["batches"] <= 200  # a batch a shard, where a shard has users
    assert many["bytes"] < 1.3 * few["bytes"]


@pytest.mark.slow
@pytest.mark.parametrize("part", ["shards", "sizes"])
def test_a_small_round_gives_its_figures(part: str) -> None:
    command = [sys.executable, "-m", "benchmarks.bench_pipelines", f"--only={part}", "--scale=1000", "--runs=1"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    content = json.loads((OUT / f"pipelines_{part}_quick.json").read_text(encoding="utf-8"))
    found = {figure["name"]: figure["value"] for figure in content["figures"]}
    wanted = ["bytes_ratio_2000_shards", "time_ratio_2000_shards"] if part == "shards" else []
    wanted += [f"{figure}_{name}" for name in EXTREMES for figure in ("seconds", "rss_mb")] if part == "sizes" else []
    assert all(found[name] > 0 for name in wanted)
