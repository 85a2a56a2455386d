"""The gate refuses what an evaluation against the published run shows to be worse, and one of anything else."""

import json
from pathlib import Path

import pytest

from export.gate.evaluation_check import check_evaluation
from export.gate.limits import Limits
from twin_tf.core.dataclass_yaml import ConfigError


def gap(difference: float, beyond_noise: bool) -> dict:
    return {"difference": difference, "low": difference - 0.1, "high": difference + 0.1, "beyond_noise": beyond_noise}


LEVEL = {"auc": gap(0.0, False), "gauc": gap(-0.001, False), "logloss": gap(0.001, False)}


def version(directory: Path, weights: int) -> Path:
    (directory / "assets.extra").mkdir(parents=True)
    (directory / "assets.extra/export.json").write_text(json.dumps({"weights_version": weights}))
    return directory


def evaluation(tmp_path: Path, less: dict | None, own: int = 20, other: int = 10) -> Path:
    found = {"weights_version": own, "against": {"run": "monday", "weights_version": other, "less": less}}
    path = tmp_path / "evaluation-test.json"
    path.write_text(json.dumps(found))
    return path


def check(tmp_path: Path, less: dict | None, published: int | None = None, **whose: int):
    model = version(tmp_path / "model", 20)
    base_path = tmp_path / "serving"
    if published is not None:
        version(base_path / "1700000000", published)
        (base_path / "1700000000/saved_model.pb").write_bytes(b"")
    return check_evaluation(model, evaluation(tmp_path, less, **whose), base_path)


def test_level_or_better_passes_and_says_by_how_much(tmp_path: Path) -> None:
    found = check(tmp_path, {**LEVEL, "auc": gap(0.02, True), "logloss": gap(-0.01, True)}, published=10)
    assert found.ok and found.figures == {
        "auc_difference": 0.02,
        "gauc_difference": -0.001,
        "logloss_difference": -0.01,
    }
    assert found.detail == "not worse by more than noise (auc +0.0200, gauc -0.0010, logloss -0.0100)"


@pytest.mark.parametrize(("metric", "difference"), [("auc", -0.01), ("gauc", -0.01), ("logloss", 0.01)])
def test_worse_beyond_noise_is_refused(tmp_path: Path, metric: str, difference: float) -> None:
    found = check(tmp_path, {**LEVEL, metric: gap(difference, True)})
    assert not found.ok
    assert found.detail == f"{metric} is worse than that of monday by 0.0100, more than noise"


def test_an_evaluation_of_another_model_is_refused(tmp_path: Path) -> None:
    found = check(tmp_path, LEVEL, own=21)
    assert not found.ok and "is of weights 21, the model's are 20" in found.detail


def test_a_comparison_with_another_than_the_published_run_is_refused(tmp_path: Path) -> None:
    found = check(tmp_path, LEVEL, published=11)
    assert not found.ok and "compares with weights 10, those published last are 11" in found.detail


def test_targets_of_one_class_judge_nothing(tmp_path: Path) -> None:
    found = check(tmp_path, {"auc": None, "gauc": None, "logloss": None})
    assert not found.ok and "no difference to judge by" in found.detail


@pytest.mark.parametrize(
    "found",
    [
        {"weights_version": 20},
        {"weights_version": 20, "against": {"run": "monday", "weights_version": 1, "less": None}},
        {"weights_version": 20, "against": {"run": "monday", "weights_version": 1, "less": {**LEVEL, "auc": "none"}}},
    ],
)
def test_an_evaluation_against_nothing_is_refused_with_what_to_do(tmp_path: Path, found: object) -> None:
    path = tmp_path / "evaluation-test.json"
    path.write_text(json.dumps(found))
    with pytest.raises(ConfigError, match="compares with no other run; run `twin-tf evaluate --against`"):
        check_evaluation(version(tmp_path / "model", 20), path)


def test_the_option_reaches_the_gate_s_process() -> None:
    assert "--evaluation" not in Limits().as_arguments()
    arguments = Limits(evaluation="run/evaluation-test.json").as_arguments()
    assert arguments[arguments.index("--evaluation") + 1] == "run/evaluation-test.json"
