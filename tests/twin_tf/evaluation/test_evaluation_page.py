"""The page of an evaluation says what its JSON holds, links its figures, and is linked from the run's page."""

import importlib.util
import json
import re

import pytest

from tests.twin_tf.evaluations import judged_result
from twin_tf.evaluation.evaluation_page import EVALUATIONS, evaluation_page, write_evaluation_page

FIGURES = ["yardsticks", "reliability", "slices", "history"]


def write(run, result):
    (run / f"evaluation-{result['split']}.json").write_text(json.dumps(result))
    return write_evaluation_page(run, result["split"]).read_text()


def pictures(text):
    return re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)


def test_a_page_has_every_figure_with_a_line_on_how_to_read_it(tmp_path):
    text = write(tmp_path, judged_result(cuts=(10, 200)))
    names = [f"evaluation-test-{name}.png" for name in FIGURES]
    assert pictures(text) == names
    assert sorted(path.name for path in tmp_path.glob("*.png")) == sorted(names)
    assert text.count("*Shows:*") == text.count("*Does not show:*") == len(FIGURES)
    assert not (tmp_path / "report.md").exists()  # nobody trained here


def test_tables_hold_the_figures_of_the_json():
    result = judged_result(cuts=(10,))
    text = evaluation_page(result, None)
    low, high = result["intervals"]["gauc"]
    assert f"| GAUC | {result['metrics']['gauc']:.4f} | {low:.4f} to {high:.4f} |" in text
    gap = result["yardsticks"]["item_rate"]["behind"]["gauc"]
    assert f"{gap['difference']:+.4f} ({gap['low']:+.4f} to {gap['high']:+.4f}" in text
    cut = result["history_worth"][0]
    assert f"| 10 | {cut['auc']:.4f} |" in text and f"{cut['less']['gauc']['difference']:+.4f} (" in text
    worst = result["worst_slices"][0]
    assert f"| {worst['slice']} | {worst['value']} | {worst['targets']:,} | {worst['users']:,} |" in text
    assert "### The 10 slices of lowest AUC" in text
    assert f"| {result['reliability'][0]['targets']:,} |" in text


def test_what_does_not_beat_the_yardsticks_is_said_first():
    lost = evaluation_page(judged_result(skill=0.1), None)
    assert re.search(r"^\* The model does not beat what needs no network: AUC .* of counting_topic", lost, re.MULTILINE)
    assert "does not beat" not in evaluation_page(judged_result(), None)


def test_against_another_run_the_verdict_is_on_the_page():
    sentence = "against other: GAUC +0.0100 (95 % +0.0010 to +0.0190: more than noise)"
    text = evaluation_page({**judged_result(), "against": {"sentence": sentence}}, None)
    assert "* Against other: GAUC +0.0100" in text


@pytest.mark.parametrize("case", [{"rate": 0.0}, {"users": 1}, {"users": 1, "each": 1}, {"days": 1}])
def test_a_page_of_little_is_a_page(case, tmp_path):
    text = write(tmp_path, judged_result(**case, cuts=(10,)))
    assert {tmp_path / name for name in pictures(text)} == {*tmp_path.glob("*.png")}
    assert "nan" not in text.lower() and "None" not in text


def test_what_was_not_asked_for_is_not_there_and_its_old_figure_goes(tmp_path):
    write(tmp_path, judged_result(cuts=(10,)))
    bare = {name: found for name, found in judged_result().items() if name not in ("yardsticks", "not_beaten")}
    text = write(tmp_path, bare)
    assert "What history is worth" not in text and "needs no network" not in text
    assert pictures(text) == ["evaluation-test-reliability.png", "evaluation-test-slices.png"]
    assert len([*tmp_path.glob("*.png")]) == 2


def test_a_run_s_page_links_its_evaluations_once(tmp_path):
    (tmp_path / "report.md").write_text(f"# A training\n\nAll of it.\n\n{EVALUATIONS}\n\nNone yet.\n")
    for split in ("test", "valid", "test"):
        write(tmp_path, judged_result(split=split))
    text = (tmp_path / "report.md").read_text()
    before, after = text.split(f"{EVALUATIONS}\n\n")
    assert before == "# A training\n\nAll of it.\n\n"
    assert after.startswith("* [evaluation-test.md](evaluation-test.md): 1,200 targets, AUC ")
    assert text.count("\n* [") == 2 and text.count(EVALUATIONS) == 1 and "None yet" not in text


def test_without_matplotlib_the_page_says_so(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find(name))
    text = write(tmp_path, judged_result(cuts=(10,)))
    assert "There are no figures, because matplotlib is not installed" in text
    assert ".png" not in text and not [*tmp_path.glob("*.png")]
    assert "What history is worth" in text
