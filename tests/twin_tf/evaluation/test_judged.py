"""The difference of two systems in every figure, in JSON's types, and the sentence on it."""

import json

import numpy as np
import pytest

from twin_tf.evaluation.judged import Judged
from twin_tf.evaluation.predictions import Predictions
from twin_tf.evaluation.verdicts import against_sentence


def scored(seed, strength):
    labels, scores = np.random.default_rng(0), np.random.default_rng(seed)
    user, label = np.repeat(np.arange(60), 30), labels.integers(0, 2, 1_800).astype(np.int8)
    score = 1 / (1 + np.exp(-strength * (label - 0.5) - scores.normal(size=1_800)))
    return Predictions(user, label, score.astype(np.float32)), np.tile(np.repeat(np.arange(10), 3), 60)


def test_a_clear_difference_is_more_than_noise_and_chance_is_not():
    good, same, poor = (Judged.of(*scored(seed, strength)) for seed, strength in ((1, 1.0), (2, 1.0), (3, 0.2)))
    clear, chance = good.less(poor), good.less(same)
    for metric in ("auc", "gauc", "logloss", "request_auc", "request_ndcg"):
        gap = clear[metric]
        assert gap["difference"] == pytest.approx(good.figures[metric] - poor.figures[metric])
        assert gap["low"] < gap["difference"] < gap["high"] and gap["beyond_noise"] is True, metric
        assert chance[metric]["beyond_noise"] is False, metric
    assert json.loads(json.dumps(clear)) == clear
    said = against_sentence("monday", clear)
    assert (
        said.startswith(f"against monday: AUC {clear['auc']['difference']:+.4f} (95 % ") and "more than noise" in said
    )
    assert "no more than noise" not in said
    assert "no more than noise" in against_sentence("monday", chance)


def test_without_times_there_are_no_figures_by_request():
    predictions, _ = scored(1, 1.0)
    found = Judged.of(predictions)
    assert found.requests is None and set(found.less(found)) == {"auc", "gauc", "logloss"}


def test_one_class_leaves_nothing_to_compare_but_log_loss():
    predictions, time = scored(1, 1.0)
    clicks = Judged.of(predictions._replace(label=np.ones(1_800, np.int8)), time)
    less = clicks.less(clicks)
    assert less["auc"] is None and less["gauc"] is None and less["request_auc"] is None and less["logloss"] is not None
    assert against_sentence("x", {"auc": None}) == "against x: there is no figure to compare"
