"""The page of the study of long lives, of what there is."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.lifelong_report import write_lifelong_report

LOAD = {"users": 5, "median_history": 900, "max_history": 9000, "days": 30, "phase_sessions": 9, "window": 1000}


def results(label: str, gauc: float, targets: int) -> list[dict[str, Any]]:
    rows = [
        {"from": 0, "to": 50, "targets": targets, "gauc": gauc},
        {"from": 50, "to": None, "targets": 3, "gauc": 0.9},
    ]
    found = {"label": label, "auc": gauc, "gauc": gauc, "train_seconds": 3.0, "train_peak_rss_mb": None}
    coverage = {"recall": 0.5, "precision": 0.4, "guessed": 0.1, "targets": 9, "behaviours_mean": 7.0}
    return [{**found, "gauc": gauc + seed / 1000, "coverage": coverage, "by_history_length": rows} for seed in (1, 2)]


@pytest.mark.parametrize(("targets", "drawn"), [(500, True), (5, False)])
def test_classes_of_few_targets_are_no_figure(tmp_path: Path, targets: int, drawn: bool) -> None:
    systems = {"twin": results("TWIN", 0.7, targets), "oracle": results("oracle", 0.72, targets)}
    machine = {"cpu": "a processor", "cores": 2}
    load = {**LOAD, "seeds": [1, 2]}
    write_lifelong_report(tmp_path, {"systems": systems, "load": load, "commit": "abc", "machine": machine})
    shown = {"quality.png", "coverage.png"} | ({"groups.png"} if drawn else set())
    assert {path.name for path in tmp_path.glob("*.png")} == shown
    page = (tmp_path / "report.md").read_text()
    assert all(f"]({name})" in page for name in shown) and ("groups.png" in page) == drawn
