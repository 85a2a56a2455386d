"""The harness measures what it says: processes, their memory, all runs; and never writes whose machine it was."""

import json
import platform
import sys
from pathlib import Path

import pytest

from benchmarks import harness

pytestmark = pytest.mark.integration

HOLD = "import time; held = b'x' * (150 << 20); time.sleep(0.5)"


def test_memory_of_the_tree_is_the_sum_and_of_a_process_the_largest() -> None:
    child = [sys.executable, "-c", HOLD]
    both = f"import subprocess, sys; c = subprocess.Popen({child!r}); {HOLD}; sys.exit(c.wait())"
    found = harness.run([sys.executable, "-c", both])
    assert 300 < found.tree_mb < 420
    assert 150 < found.process_mb < 210
    assert found.seconds >= 0.5


def test_a_failing_command_stops_the_benchmark_with_what_it_said() -> None:
    with pytest.raises(harness.CommandFailedError, match=r"(?s)exit 3 from .*\nno such log"):
        harness.run([sys.executable, "-c", "print('no such log'); raise SystemExit(3)"])


def test_every_run_begins_without_the_output_of_the_one_before(tmp_path: Path) -> None:
    output = tmp_path / "output"
    runs = harness.measure([sys.executable, "-c", f"import os; os.mkdir({str(output)!r})"], output, runs=3)
    assert len(runs) == 3
    assert output.is_dir()


def test_a_figure_is_the_median_and_keeps_its_runs() -> None:
    speed = harness.figure("speed", "events/s", "three runs", [3.0, 1.0, 2.0000004])
    assert (speed.value, speed.runs) == (2.0, (3.0, 1.0, 2.0))
    half = harness.figure("half", "events/s", "one run", [4.0])
    assert harness.ratio("ratio", "times", "speed / half", speed, half).value == 0.5


def test_the_file_names_neither_host_nor_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(harness, "ROOT", tmp_path)
    monkeypatch.setattr(harness, "OUT", tmp_path / "benchmarks/out")
    start = harness.Start(commit="abc", load_average=[0.1, 0.2, 0.3])
    path = harness.report("toy", {"events": 5}, [harness.figure("speed", "events/s", "how", [5.0])], start)
    text = path.read_text()
    content = json.loads(text)
    assert list(content) == ["bench", "commit", "machine", "load", "figures"]
    assert (content["bench"], content["commit"], content["load"]) == ("toy", "abc", {"events": 5})
    assert content["figures"] == [{"name": "speed", "value": 5.0, "unit": "events/s", "how": "how", "runs": [5.0]}]
    assert content["machine"]["load_average"]["before"] == [0.1, 0.2, 0.3]
    assert content["machine"]["libraries"].keys() == set(harness.LIBRARIES)
    assert str(tmp_path) not in text
    assert platform.node() not in text
    assert "speed" in capsys.readouterr().out
