"""`twin-tf compare` as a user runs it: ended in the midst, run again, and what it leaves behind."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.patience import PATIENCE_S
from tests.twin_tf.built_once import shared_root
from tests.twin_tf.small_run import small_config, small_data

pytestmark = pytest.mark.integration

PICTURES = {"quality", "paired", "history_length", "consistency", "table_age", "ablations", "ground_truth"}


def begin(output: Path, jobs: int) -> "subprocess.Popen[str]":
    root = shared_root()
    small_data(root)
    config = output.parent / "config.yaml"
    small_config("training.epochs=1").save(config)
    command = [sys.executable, "-m", "twin_tf.cli", "compare", "--config", str(config), "--output", str(output)]
    command += ["--prepared", str(root / "prepared"), "--truth", str(root / "raw" / "truth"), "--jobs", str(jobs)]
    command += ["--systems", "din,twin,twin_no_bias", "--seeds", "1"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=output.parent)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at processes in /proc")
def test_a_comparison_that_was_ended_goes_on_to_its_report(tmp_path: Path) -> None:
    output = tmp_path / "comparison"
    first = begin(output, jobs=1)
    while not list(output.glob("results/din-seed1-*.json")):
        assert first.poll() is None, first.communicate()[1]
        time.sleep(0.2)
    while not (mine := children(first.pid)):
        time.sleep(0.05)
    first.send_signal(signal.SIGTERM)
    said = first.communicate(timeout=PATIENCE_S)[1]
    assert first.returncode == 143 and "Traceback" not in said
    assert not any(Path(f"/proc/{child}").exists() for child in mine)
    page = (output / "report.md").read_text()
    assert "Not finished (1 of 3 trainings done)" in page and "| DIN |" in page

    second = begin(output, jobs=2)
    said = second.communicate(timeout=PATIENCE_S)[1]
    assert second.returncode == 0, said
    assert "search=din" not in said.replace("consistency", "")  # DIN was trained and evaluated before
    report = json.loads((output / "report.json").read_text())
    assert set(report["extras"]) == set(report["systems"]) == {"din", "twin", "twin_no_bias"}
    assert report["extras"]["twin"]["by_age"][0]["share"] == 1
    assert report["ground_truth"]["twin"]["recall"] > report["ground_truth"]["twin"]["guessed"] > 0
    assert all(extra["latency"]["p50_ms"] > 0 for extra in report["extras"].values())
    assert {path.stem for path in output.glob("*.png")} == PICTURES
    page = (output / "report.md").read_text()
    assert "Not finished" not in page and all(f"({name}.png)" in page for name in PICTURES)
    assert not list((output / "served").iterdir())
