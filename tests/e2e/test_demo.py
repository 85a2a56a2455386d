"""`make demo` cannot be lost: killed after every step it goes on, and what fails is reported."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.twin_tf.small_run import small_config

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
STEPS = [
    "simulate", "preprocess", "train twin", "evaluate twin", "train din", "evaluate din", "inspect", "export",
    "validate", "publish", "serve (start)", "predict", "yardsticks",
]  # fmt: skip
TAKES = {"train_seconds", "examples_per_s", "train_peak_rss_mb", "run", "prepared", "trained_at_once"}
TIMED = {"seconds_total", "peak_rss_mb", "p50_ms", "p99_ms", "examples_per_s", "export_mb"}


def begin(workdir: Path, config: Path, *options: str, **environment: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.e2e.tiny_demo", str(workdir), str(config), *options]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
    )


def results(workdir: Path) -> set[Path]:
    return set((workdir / "results").glob("*.json"))


def untimed(report: dict[str, Any]) -> dict[str, Any]:
    """A report without what a clock or a directory's name decides."""
    systems = {
        label: {name: value for name, value in system.items() if name not in {*TAKES, "steps", "commit"}}
        for label, system in report["systems"].items()
    }
    figures = [figure for figure in report["figures"] if figure["name"] not in TIMED]
    return {"systems": systems, "figures": figures, "findings": report["findings"], "title": report["title"]}


def report_of(workdir: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((workdir / "report.json").read_text())
    return found


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo") / "config.yaml"
    small_config("training.epochs=1", "model.history_length=100", "model.top_k=20", "serving.probes=20").save(path)
    return path


def demo_killed(workdir: Path, config: Path, kills: Sequence[int]) -> Path:
    """A demo that was killed, each time there were so many results, and called again until it was done."""
    calls, said = 0, ""
    while True:
        process = begin(workdir, config)
        due = kills[calls] if calls < len(kills) else None
        calls += 1
        while process.poll() is None and (due is None or len(results(workdir)) < due):
            time.sleep(0.02)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        said, _ = process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, said
    assert calls == len(kills) + 1
    steps = report_of(workdir)["steps"]
    assert [step["name"] for step in steps] == STEPS
    assert all(step.get("reused") for step in steps[: max(kills, default=0)])
    assert not list((workdir / "serving").glob(".*incoming*"))
    return workdir


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, config: Path) -> Path:
    """A demo that was killed once, after its third step, and went on."""
    return demo_killed(tmp_path_factory.mktemp("whole") / "demo", config, (3,))


@pytest.mark.slow
def test_a_demo_killed_after_each_step_gives_the_report_of_a_whole_one(
    tmp_path: Path, config: Path, whole: Path
) -> None:
    uninterrupted = demo_killed(tmp_path / "demo", config, ())
    # How many results there are when it is killed; the server's start has none of its own.
    each = demo_killed(tmp_path / "killed", config, range(1, len(STEPS) - 1))
    for workdir in (whole, each):
        assert untimed(report_of(workdir)) == untimed(report_of(uninterrupted))
        assert {path.name for path in workdir.glob("*.png")} == {path.name for path in uninterrupted.glob("*.png")}


def test_a_finished_demo_does_nothing_again_unless_it_is_to_be_fresh(config: Path, whole: Path) -> None:
    before = report_of(whole)
    process = begin(whole, config)
    said, _ = process.communicate()
    assert process.returncode == 0 and "$ twin-tf" not in said
    after = report_of(whole)
    assert untimed(after) == untimed(before) and all(step["reused"] for step in after["steps"])
    assert "kept from earlier calls" in next(f["how"] for f in after["figures"] if f["name"] == "seconds_total")


@pytest.mark.slow
def test_a_demo_whose_replay_fails_still_reports(tmp_path: Path, config: Path, whole: Path) -> None:
    workdir = tmp_path / "demo"
    subprocess.run(["cp", "-r", str(whole), str(workdir)], check=True)
    for path in (workdir / "results").glob("predict-*.json"):
        path.unlink()
    process = begin(workdir, config, TINY_DEMO_BREAK="predict")
    said, _ = process.communicate()
    assert process.returncode == 1 and "Traceback" not in said
    report, page = report_of(workdir), (workdir / "report.md").read_text()
    assert report["failed"]["step"] == "predict" and "nobody" in report["failed"]["why"]
    assert report["failed"]["command"] in said and f"To go on: `{report['failed']['command']}`" in page
    assert "the step `predict` failed" in page and not (workdir / "latency.png").exists()
    before = untimed(report_of(whole))["systems"]
    assert untimed(report)["systems"] == {label: before[label] for label in ("TWIN", "DIN (latest 100)")}
    assert {"auc_twin", "export_mb"} <= {figure["name"] for figure in report["figures"]}
    process = begin(workdir, config)
    said, _ = process.communicate()
    assert process.returncode == 0 and said.count("$ twin-tf") == 2, "serve and predict; yardsticks are no command"
    assert "failed" not in report_of(workdir)
    assert untimed(report_of(workdir)) == untimed(report_of(whole))


def test_a_demo_that_is_ended_reports_what_it_has_and_leaves_nothing_running(tmp_path: Path, config: Path) -> None:
    workdir = tmp_path / "demo"
    first = begin(workdir, config)
    while not list((workdir / "results").glob("preprocess-*.json")):
        assert first.poll() is None
        time.sleep(0.05)
    second = begin(workdir, config)
    said, _ = second.communicate()
    assert second.returncode == 1 and "another demo is at work in" in said and "Traceback" not in said
    first.send_signal(signal.SIGTERM)
    said, _ = first.communicate()
    assert first.returncode == 143 and "Traceback" not in said
    report = report_of(workdir)
    assert report["failed"]["step"] == "train twin" and report["failed"]["why"] == "it was interrupted"
    assert [step["name"] for step in report["steps"]] == ["simulate", "preprocess"]
