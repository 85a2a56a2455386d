"""What a run keeps of each user, and the interval of a difference in GAUC that is computed from it."""

import numpy as np
import pytest

from twin_tf.evaluation.bootstrap import interval, resample
from twin_tf.evaluation.predictions import Predictions
from twin_tf.evaluation.user_figures import UserFigures, gauc_difference


def scored(seed, noise=1.0):
    """The same targets at every seed, scored anew."""
    labels, scores = np.random.default_rng(0), np.random.default_rng(seed)
    user, label = labels.integers(0, 50, 2_000), labels.integers(0, 2, 2_000).astype(np.int8)
    return Predictions(user, label, np.exp(label + noise * scores.normal(size=2_000)).astype(np.float32))


def test_what_is_kept_gives_the_gauc(tmp_path):
    predictions = scored(1)
    UserFigures.of(predictions).save(tmp_path, "test")
    found = UserFigures.load(tmp_path, "test")
    assert np.average(found.auc, weights=found.targets) == pytest.approx(predictions.metrics.gauc)
    assert UserFigures.load(tmp_path, "valid") is None


def test_the_interval_is_that_of_the_predictions_themselves():
    mine, theirs = scored(1, 1.0), scored(2, 2.0)
    found = gauc_difference([(UserFigures.of(mine), UserFigures.of(theirs))])
    wanted = interval(resample(mine).draws["gauc"] - resample(theirs).draws["gauc"])
    assert found == pytest.approx(wanted) and 0 < found[0] < mine.metrics.gauc - theirs.metrics.gauc < found[1]


def test_more_seeds_make_the_interval_narrower():
    pairs = [(UserFigures.of(scored(seed)), UserFigures.of(scored(100 + seed))) for seed in range(1, 9)]
    one, many = gauc_difference(pairs[:1]), gauc_difference(pairs)
    assert many[1] - many[0] < one[1] - one[0]


def test_other_targets_have_no_difference():
    mine = UserFigures.of(scored(1))
    assert gauc_difference([]) is None
    assert gauc_difference([(mine, UserFigures.of(scored(2).at(slice(0, 1_000))))]) is None
