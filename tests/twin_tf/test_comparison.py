"""A comparison of systems: what it chooses, what it keeps, what it reports."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.twin_tf.small_run import shared_root, small_config, small_data, small_run
from twin_tf import arms as arms_module
from twin_tf.arms import Arm, Arms
from twin_tf.command_steps import Steps
from twin_tf.comparison.consistency import hits_by_size
from twin_tf.comparison.report import findings, paired, quality_rows, summary, write_comparison
from twin_tf.comparison.systems import SYSTEMS, chosen_systems
from twin_tf.config import load_config
from twin_tf.records import Manifest
from twin_tf.runs import load_run
from twin_tf.search import STRATEGIES, make_search
from twin_tf.strict_yaml import ConfigError


def result(key: str, seed: int, auc: float, **changes: Any) -> dict[str, Any]:
    lengths = [
        {"from": low, "to": None, "targets": 50, "auc": auc, "gauc": auc - 0.01, "logloss": 0.6} for low in (0, 50, 800)
    ]
    return {
        "key": key, "seed": seed, "auc": auc, "gauc": auc - 0.01, "logloss": 0.6, "by_history_length": lengths,
        "train_seconds": 10.0, "examples_per_s": 1000.0, "train_peak_rss_mb": 900.0, **changes,
    }  # fmt: skip


def report_of(results: dict[str, list[dict[str, Any]]], **changes: Any) -> dict[str, Any]:
    extra = {"latency": {"p50_ms": 12.0, "p99_ms": 15.0, "parameters": 1_000_000}}
    curve = [{"size": 10, "share": 0.1}, {"size": 100, "share": 1.0}]
    return {
        "data": "toy", "targets": {"train": 10, "test": 5}, "seeds": [1, 2],
        "labels": {key: system.label for key, system in SYSTEMS.items()},
        "ablations": ["twin_no_bias"], "results": results,
        "counting": {"counting, whole history": {"auc": 0.62, "gauc": 0.62}},
        "extras": {"twin": {**extra, "by_size": curve, "by_age": [{"age": 0, "share": 1.0}, {"age": 9, "share": 0.8}]},
                   "twin_no_bias": extra, "avg_pooling": {**extra, "by_size": None}},
        "history_length": 100, "epochs": 1, **changes,
    }  # fmt: skip


RESULTS = {
    "avg_pooling": [result("avg_pooling", 1, 0.60), result("avg_pooling", 2, 0.61)],
    "din": [result("din", 1, 0.64), result("din", 2, 0.66)],
    "twin": [result("twin", 1, 0.70), result("twin", 2, 0.71)],
    "twin_no_bias": [result("twin_no_bias", 1, 0.68)],
}


def test_means_and_paired_differences_over_the_seeds() -> None:
    found = summary(RESULTS["din"])
    assert found["auc_mean"] == pytest.approx(0.65) and found["auc_std"] == pytest.approx(0.02 / np.sqrt(2))
    assert summary(RESULTS["twin_no_bias"])["auc_std"] is None
    difference, deviation = paired(RESULTS["twin"], RESULTS["din"], "auc")
    assert difference == pytest.approx(0.055) and deviation == pytest.approx(0.01 / np.sqrt(2))
    assert paired(RESULTS["twin"], RESULTS["twin_no_bias"], "auc") == (pytest.approx(0.02), None)


def test_the_page_says_who_wins_and_who_stays_below_counting(tmp_path: Path) -> None:
    write_comparison(tmp_path, report_of(RESULTS))
    content = json.loads((tmp_path / "report.json").read_text())
    said = findings(content)
    assert said[0] == "AUC: TWIN 0.7050, +0.0550 against the best other system, DIN (± 0.0071 over 2 seeds)."
    assert "average pooling stay below it" in said[2] and "DIN" not in said[2]
    page = (tmp_path / "report.md").read_text()
    assert "| DIN | 0.6500 ± 0.0141 |" in page and "TWIN without bias" in page
    shown = {"quality", "history_length", "consistency", "table_age", "ablations"}
    assert {path.stem for path in tmp_path.glob("*.png")} == shown
    assert all(f"({name}.png)" in page for name in shown)
    assert content["systems"]["twin"]["gauc_mean"] == pytest.approx(0.695)
    assert set(content["consistency"]) == {"twin"} and set(content["ablation"]) == {"twin_no_bias"}
    assert [row[0] for row in quality_rows(content)][-1] == "counting, whole history (no learning)"


def test_a_comparison_that_has_just_begun_says_so(tmp_path: Path) -> None:
    write_comparison(tmp_path, report_of({}, extras={}, counting={}))
    assert "Not finished" in (tmp_path / "report.md").read_text()


def test_systems_are_chosen_by_name() -> None:
    assert [system.key for system in chosen_systems("din, twin")] == ["din", "twin"]
    assert {system.search for system in chosen_systems("all")} == set(STRATEGIES)
    assert not any(system.ablation for system in chosen_systems("main"))
    with pytest.raises(ConfigError, match="no system 'dinn'; did you mean 'din'"):
        chosen_systems("dinn,twin")
    with pytest.raises(ConfigError, match="must include twin"):
        chosen_systems("din,eta")


@pytest.mark.parametrize("name", ["complete_journey", "simulated"])
def test_every_system_is_made_of_the_shipped_configurations(name: str) -> None:
    for system in SYSTEMS.values():
        config = load_config(name, system.arm("embeddings").overrides)
        assert config.schema is not None
        assert make_search(config.model, config.schema, 8, 1).name == system.search
        assert (config.training.item_embeddings == "embeddings") == system.needs_embeddings


class Recorded(Steps):
    """Writes what the commands would leave behind, and what was asked."""

    def __init__(self, stop_at: str = "") -> None:
        super().__init__()
        self.asked: list[str] = []
        self._stop_at = stop_at

    def run(self, name: str, *arguments: str) -> dict[str, Any]:
        self.asked.append(arguments[0])
        run = Path(arguments[arguments.index("--run") + 1])
        if arguments[0] == self._stop_at:
            raise KeyboardInterrupt
        self.add(name, 1.0, 500.0)
        if arguments[0] == "train":
            run.mkdir(parents=True)
            trained = {"train_seconds": 1.0, "examples_per_s": 5.0, "epochs": 1, "valid": []}
            (run / "run.json").write_text(json.dumps({"weights_version": 7}))
            (run / "report.json").write_text(json.dumps(trained))
            return trained
        return {"metrics": {"auc": 0.7, "gauc": 0.6, "logloss": 0.5}, "by_history_length": []}


def test_what_was_done_is_not_done_again(tmp_path: Path) -> None:
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    (prepared / arms_module.MANIFEST).write_text("{}")
    arm = Arm("din", "DIN", ("model.search=recent",))
    stopped = Recorded(stop_at="evaluate")
    with pytest.raises(KeyboardInterrupt):
        Arms(tmp_path, "simulated", (1, 2), stopped).run(arm, prepared)
    assert stopped.asked == ["train", "evaluate"]
    again = Recorded()
    found = Arms(tmp_path, "simulated", (1, 2), again).run(arm, prepared)
    assert again.asked == ["evaluate", "train", "evaluate"]
    assert [one["seed"] for one in found] == [1, 2] and found[0]["run"] != found[1]["run"]
    assert Arms(tmp_path, "simulated", (1, 2), Recorded()).run(arm, prepared) == found
    other = Recorded()
    (prepared / arms_module.MANIFEST).write_text('{"of": "another day"}')
    Arms(tmp_path, "simulated", (1,), other).run(arm, prepared)
    assert other.asked == ["train", "evaluate"]


def test_twins_search_hands_over_what_its_attention_wants() -> None:
    root = shared_root()
    small_data(root)
    model, manifest = load_run(small_run(root)).model, Manifest.load(root / "prepared")
    curve = hits_by_size(model, manifest, records=6)
    assert curve is not None
    shares = {row["size"]: row["share"] for row in curve}
    assert list(shares) == [10, 20, 50, 100, 200, model.config.history_length]
    assert all(a <= b for a, b in zip(shares.values(), list(shares.values())[1:], strict=False))
    assert shares[100] == shares[200] == 1.0 and shares[10] < 0.5
    assert small_config().model.history_length == model.config.history_length
