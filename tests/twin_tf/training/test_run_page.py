"""The page of a training, and the sentences on what can be concluded from it."""

import importlib.util
import json

import pytest

from twin_tf.training.findings import findings
from twin_tf.training.run_page import run_page, write_run_page

METRICS = {"auc": 0.7, "gauc": 0.65, "logloss": 0.5, "calibration": 1.01, "targets": 900, "users": 30}
TABLE = {"start_norm": 0.2, "moved_median": 0.001, "moved_p90": 0.01, "never_updated": 0.1, "updated_rows": 5000}
VALID = {"steps": 400, **METRICS, "gauc_error": 0.0123}
REPORT = {
    "search": "twin",
    "schema": "my_shop",
    "epochs": 1,
    "steps": 400,
    "targets": 20_000,
    "train_seconds": 61.4,
    "examples_per_s": 325.7,
    "loss": [0.6],
    "gsu_overlap@100": [1.0],
    "attention_entropy": [2.5],
    "attention_entropy_normalised": [0.5432],
    "top_k": 100,
    "longest_history": 4000,
    "curve": [{"steps": steps, "loss": 0.6, "moved": {"item": 0.1}} for steps in range(20, 401, 20)],
    "valid": [VALID],
    "stopped_early": False,
    "kept": {"which": "last", "steps": 400, "valid": VALID},
    "tables": {"item": {**TABLE, "worth": 0.0, "worth_error": 0.00001}},
    "yardsticks": {"item_rate": {"label": "item rate", **METRICS, "auc": 0.6, "gauc": 0.55}},
    "findings": [],
}


def test_a_run_that_went_well_needs_no_sentence():
    assert findings(REPORT) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": 40}, "40 steps are few"),
        ({"longest_history": 100}, "no history is longer than top_k = 100 (the longest that a target may see has 100)"),
        (
            {"yardsticks": {"item_rate": {"label": "item rate", **METRICS}}},
            "the model does not beat what needs no",
        ),
    ],
)
def test_what_limits_a_conclusion_is_one_sentence(changes, said):
    (sentence,) = findings({**REPORT, **changes})
    assert said in sentence
    text = run_page({**REPORT, "findings": [sentence]}, None)
    assert f"\n* {sentence[0].upper()}" in text


def test_a_run_without_validation_records_or_of_earlier_code_has_fewer_sentences():
    earlier = {name: REPORT[name] for name in ("steps", "kept", "loss", "valid")}
    assert findings(earlier) == []
    assert findings({**REPORT, "kept": {**REPORT["kept"], "valid": None}, "yardsticks": {}}) == []


def test_the_page_has_the_curve_the_yardsticks_and_the_tables(tmp_path):
    (tmp_path / "report.json").write_text(json.dumps(REPORT))
    page = write_run_page(tmp_path)
    text = page.read_text()
    assert page == tmp_path / "report.md" and (tmp_path / "learning_curve.png").is_file()
    assert "(learning_curve.png)" in text and text.count("*Shows:*") == text.count("*Does not show:*") == 1
    assert "| 1 | 0.6000 | 1.0000 | 2.5000 | 0.5432 |" in text
    assert "| the model | 0.7000 | 0.6500 | 0.5000 | 1.0100 |\n| item rate | 0.6000 | 0.5500 |" in text
    assert "standard error of its GAUC is 0.0123" in text
    assert "The table item is worth nothing" in text
    assert "None yet: `twin-tf evaluate --run RUN --prepared PREPARED` adds one." in text


def test_runs_of_earlier_code_have_a_page_without_what_they_did_not_keep(tmp_path):
    kept = ("curve", "yardsticks", "tables", "attention_entropy", "attention_entropy_normalised", "findings")
    earlier = {name: value for name, value in REPORT.items() if name not in kept}
    (tmp_path / "report.json").write_text(json.dumps({**earlier, "kept": {**REPORT["kept"], "valid": None}}))
    text = write_run_page(tmp_path).read_text()
    assert ".png" not in text and "| 1 | 0.6000 | 1.0000 | - | - |" in text
    assert "not evaluated: there are no validation records" in text


def test_without_matplotlib_the_page_says_so(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find(name))
    (tmp_path / "report.json").write_text(json.dumps(REPORT))
    text = write_run_page(tmp_path).read_text()
    assert "There are no figures, because matplotlib is not installed" in text and ".png" not in text
    assert [path.name for path in tmp_path.glob("*.png")] == []
