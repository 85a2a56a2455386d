"""What people read after a demo says what was measured."""

import json
import struct

import numpy as np
import pytest

from twin_tf.evaluation.predictions import Predictions
from twin_tf.evaluation.user_figures import UserFigures
from twin_tf.experiments.demo_report import Done, build_report, quality_table, write_report
from twin_tf.experiments.shipped_data import SHIPPED
from twin_tf.experiments.subprocess_runner import Steps

pytestmark = pytest.mark.integration

CLASSES = [
    {"from": 0, "to": 50, "auc": 0.6, "gauc": 0.61, "targets": 1200},
    {"from": 50, "to": None, "auc": 0.7, "gauc": 0.71, "targets": 34000},
]
REPORT = {
    "title": "TWIN on a toy",
    "findings": ["* TWIN reaches AUC 0.7654.", "* Counting reaches AUC 0.7000."],
    "systems": {
        "TWIN": {"auc": 0.76543, "gauc": 0.75, "logloss": 0.4, "train_seconds": 61.4, "by_history_length": CLASSES},
        "DIN (latest 100)": {
            "auc": 0.6,
            "gauc": 0.59,
            "logloss": 0.5,
            "train_seconds": 30.0,
            "by_history_length": CLASSES[1:],
        },
    },
    "yardsticks": {
        "counting_topic": {
            "label": "counting by topic, whole history",
            "auc": 0.7,
            "gauc": 0.69,
            "logloss": None,
            "targets": 9,
        },
    },
    "figures": [{"name": "p99_ms", "value": 12.3456789, "unit": "ms", "how": "1,000 calls"}],
    "steps": [
        {"name": "train twin", "seconds": 61.44, "peak_rss_mb": 812.3},
        {"name": "export", "seconds": 3.0, "peak_rss_mb": 500.0, "reused": True},
    ],
    "commit": "abc",
    "unused": [],
    "tables": {
        "video": {
            "start_norm": 0.2,
            "moved_median": 0.05,
            "moved_p90": 0.4,
            "never_updated": 0.25,
            "updated_rows": 3000,
            "worth": -0.0001,
            "worth_error": 0.00004,
        },
        "topic": {
            "start_norm": 0.2,
            "moved_median": 1.5,
            "moved_p90": 2.5,
            "never_updated": 0.0,
            "updated_rows": 40,
            "worth": 0.0123,
            "worth_error": 0.0011,
        },
    },
    "nearest": {
        "candidates": 1234,
        "cosine_p99": 0.31,
        "items": [
            {
                "item": 7,
                "name": "BEEF / GROCERY",
                "behaviours": 5000,
                "nearest": [{"item": 8, "name": "PORK | FRESH", "cosine": 0.75}],
            },
        ],
    },
    "latencies_ms": [float(i % 17 + 1) for i in range(500)],
}
PLOTS = ("quality.png", "history_length.png", "latency.png", "seconds.png")


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("report")
    write_report(directory, REPORT)
    return directory


def test_programs_read_everything_but_the_single_latencies(workdir):
    written = json.loads((workdir / "report.json").read_text())
    assert written == {key: value for key, value in REPORT.items() if key != "latencies_ms"}


def test_the_page_holds_the_findings_the_tables_and_every_plot(workdir):
    lines = (workdir / "report.md").read_text().splitlines()
    assert lines[0] == "# TWIN on a toy"
    assert lines[2:4] == REPORT["findings"]
    assert "| TWIN | 0.7654 | 0.7500 | 0.4000 | 61 |" in lines
    assert "| counting by topic, whole history | 0.7000 | 0.6900 | - | - |" in lines
    assert "| p99_ms | 12.3457 | ms | 1,000 calls |" in lines
    assert "| train twin | 61.4 | 812 |  |" in lines
    assert "| export | 3.0 | 500 | kept from an earlier call |" in lines
    rows = [line for line in lines if line.startswith(("| topic |", "| video |"))]
    assert rows == [
        "| topic | 40 | 0% | 150.0% | 250.0% | +0.01230 ± 0.00110 |",
        "| video | 3,000 | 25% | 5.0% | 40.0% | -0.00010 ± 0.00004 |",
    ]
    assert any(line.startswith("* the table video is worth nothing: with its 3,000 trained rows") for line in lines)
    assert r"| BEEF / GROCERY | 5,000 | PORK \| FRESH (0.75) |" in lines
    for plot in PLOTS:
        assert any(f"]({plot})" in line for line in lines), plot


def test_the_page_links_the_pages_of_each_run(tmp_path):
    systems = {"TWIN": {**REPORT["systems"]["TWIN"], "run": "/elsewhere/runs/twin-seed1-abc"}}
    write_report(tmp_path, {**REPORT, "systems": systems})
    page = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert (
        "| TWIN | [training](runs/twin-seed1-abc/report.md), [test split](runs/twin-seed1-abc/evaluation-test.md), "
        in page
    )


def test_every_plot_is_there_as_data_too(workdir):
    rows = {plot: (workdir / plot).with_suffix(".csv").read_text().splitlines() for plot in PLOTS}
    assert rows["quality.png"][1].startswith("TWIN,0.76543,0.75,0.4,")
    assert rows["quality.png"][3].startswith('"counting by topic, whole history",0.7,0.69,,')
    assert rows["history_length.png"][3] == "DIN (latest 100),50,,34000,,0.7,0.71,"
    assert len(rows["latency.png"]) == 501 and rows["seconds.png"][2] == "export,3.0,500.0"


@pytest.mark.parametrize("plot", PLOTS)
def test_every_plot_is_a_picture_of_readable_size(workdir, plot):
    content = (workdir / plot).read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", content[16:24])
    assert width == 880
    assert height >= 150


def test_log_loss_and_seconds_mean_nothing_for_counting():
    rows = quality_table(REPORT["systems"], REPORT["yardsticks"])
    assert rows[1] == ("DIN (latest 100)", "0.6000", "0.5900", "0.5000", "30")
    assert rows[2][3:] == ("-", "-")


def test_a_demo_that_failed_says_where_and_how_it_goes_on(tmp_path):
    steps = Steps()
    steps.add("import", 3.0, 100.0)
    failed = {"step": "train twin", "why": "No space left on device", "command": "make demo"}
    report = build_report(SHIPPED["simulated"], Done(steps), "abc", failed)
    write_report(tmp_path, report)
    page = (tmp_path / "report.md").read_text()
    assert "**Not finished: the step `train twin` failed.** No space left on device" in page
    assert "To go on: `make demo`" in page and "| import | 3.0 | 100 |" in page
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "report.md", "seconds.png", "seconds.csv"}
    assert json.loads((tmp_path / "report.json").read_text())["failed"] == failed
    (tmp_path / "latency.png").write_text("of an earlier demo")
    write_report(tmp_path, build_report(SHIPPED["simulated"], Done(Steps()), "abc", None))
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "report.md"}


def test_figures_of_what_is_missing_are_left_out():
    system = {"auc": 0.7, "gauc": 0.6, "targets": 5, "label": "TWIN", "epochs": 1, "examples_per_s": 9.0}
    report = build_report(SHIPPED["simulated"], Done(Steps(), {"twin": system}), "abc", None)
    assert [figure["name"] for figure in report["figures"]] == ["gauc_twin", "auc_twin", "examples_per_s"]
    assert report["findings"] == [] and "failed" not in report


def test_a_demo_without_a_gauc_reports_what_there_is(tmp_path):
    system = {"auc": 0.7, "gauc": None, "logloss": 0.5, "targets": 5, "epochs": 1, "examples_per_s": 9.0}
    systems = {key: {**system, "label": key, "train_seconds": 1.0, "by_history_length": []} for key in ("twin", "din")}
    report = build_report(SHIPPED["simulated"], Done(Steps(), systems), "abc", None)
    write_report(tmp_path, report)
    assert report["findings"] == [] and report["paired"] == {}
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "report.md", "quality.png", "quality.csv"}


def test_the_lead_over_din_has_an_interval(tmp_path):
    systems, rng = {}, np.random.default_rng(1)
    user, label = np.repeat(np.arange(40), 20), rng.integers(0, 2, 800).astype(np.int8)
    for key, noise in (("twin", 0.5), ("din", 3.0)):
        predictions = Predictions(user, label, np.exp(label + noise * rng.normal(size=800)).astype(np.float32))
        (tmp_path / key).mkdir()
        UserFigures.of(predictions).save(tmp_path / key, "test")
        more = {"label": key, "seed": 1, "run": str(tmp_path / key), "epochs": 1, "examples_per_s": 9.0}
        systems[key] = {**predictions.metrics.to_plain(), **more}
    report = build_report(SHIPPED["simulated"], Done(Steps(), systems), "abc", None)
    lead = report["paired"]["din"]
    between = f"95 % over users {lead['low']:+.4f} to {lead['high']:+.4f}, more than noise"
    assert f"100 behaviours (GAUC: {between})." in report["findings"][0]
