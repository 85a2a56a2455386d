"""Yardsticks on prepared data: beside a loop over decoded records, and blind to what they must not see."""

import numpy as np
import pytest

from tests.twin_tf.small_run import decode
from twin_tf.evaluation.earlier_rates import combined_rate, earlier_rates
from twin_tf.evaluation.history_trees import FEATURES, tree_scores
from twin_tf.evaluation.verdicts import best_yardstick, not_beaten
from twin_tf.evaluation.yardsticks import compute_yardsticks, default_category
from twin_tf.records.record_reader import read_targets

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def computed(manifest):
    return compute_yardsticks(manifest, "test", ["topic"], trees=True)


def decoded(manifest, split):
    """User, item, time and label of all targets of a split, in the order of the files."""
    columns = [[], [], [], []]
    for record in decode(manifest, split):
        columns[0] += [record["user/id"]] * len(record["target/item"])
        for column, name in zip(columns[1:], ("item", "time", "label"), strict=True):
            column += record[f"target/{name}"].tolist()
    return np.array(columns)


def test_targets_are_read_as_they_are_decoded(manifest):
    targets = read_targets(manifest, ("train", "test"))
    for split in ("train", "test"):
        inside = targets.of(split)
        found = [targets.user[inside], targets.item[inside], targets.time[inside], targets.label[inside]]
        np.testing.assert_array_equal(found, decoded(manifest, split))
    half = read_targets(manifest, ("train",), {"train": 2})
    assert set(half.record) == set(range(0, targets.record[targets.of("train")].max() + 1, 2))
    np.testing.assert_array_equal(half.item, targets.item[targets.of("train") & (targets.record % 2 == 0)])


def test_rates_are_those_of_the_whole_log_before_each_target(manifest, computed):
    parts = [decoded(manifest, split) for split in ("train", "valid", "test")]
    rates = earlier_rates(*np.concatenate(parts, axis=1))
    test = -parts[2].shape[1]
    np.testing.assert_allclose(computed["item_rate"].predictions.score, rates.item[test:], rtol=1e-6)
    labels = np.concatenate(parts, axis=1)[3]
    combined = combined_rate(rates, labels, np.arange(len(labels)) < parts[0].shape[1])
    np.testing.assert_allclose(computed["item_user_rate"].predictions.score, combined[test:], rtol=1e-6)


def test_all_yardsticks_look_at_the_same_targets(manifest, computed):
    assert list(computed) == ["item_rate", "item_user_rate", "counting_topic_latest_100", "counting_topic", "trees"]
    user, _, _, label = decoded(manifest, "test")
    for yardstick in computed.values():
        np.testing.assert_array_equal(yardstick.predictions.user, user)
        np.testing.assert_array_equal(yardstick.predictions.label, label)
    assert computed["counting_topic"].to_plain()["logloss"] is None
    assert computed["trees"].to_plain()["logloss"] < computed["item_rate"].to_plain()["logloss"]
    assert computed["trees"].predictions.metrics.auc > computed["item_rate"].predictions.metrics.auc


def test_trees_do_not_see_the_labels_that_they_predict(manifest, computed):
    """With every label of the latest moment of the test part turned, no score changes but through later rates."""
    targets = read_targets(manifest, ("train", "valid", "test"))
    last = targets.time == targets.time.max()
    turned = targets._replace(label=np.where(last, 1 - targets.label, targets.label))
    rates = earlier_rates(turned.user, turned.item, turned.time, turned.label)
    score = tree_scores(manifest, ("test", 1), "topic", turned, rates, 1)
    np.testing.assert_array_equal(score, computed["trees"].predictions.score)
    assert len(FEATURES) == 12


def test_a_training_part_of_one_label_fits_nothing(manifest):
    targets = read_targets(manifest, ("train", "test"))
    clicks = targets._replace(label=np.ones_like(targets.label))
    rates = earlier_rates(clicks.user, clicks.item, clicks.time, clicks.label)
    assert combined_rate(rates, clicks.label, clicks.of("train")) is None
    assert tree_scores(manifest, ("test", 1), "topic", clicks, rates, 1) is None


def test_a_sample_is_that_of_the_evaluation(manifest, computed):
    records = sum(shard.records for shard in manifest.shards("test"))
    sample = compute_yardsticks(manifest, "test", ["topic"], trees=True, limit=records // 3)
    targets = read_targets(manifest, ("test",))
    inside = targets.record % -(-records // (records // 3)) == 0
    for key, yardstick in computed.items():
        np.testing.assert_array_equal(sample[key].predictions.score, yardstick.predictions.score[inside], key)


def test_without_categories_only_the_rates_are_computed(manifest):
    assert list(compute_yardsticks(manifest, "valid")) == ["item_rate", "item_user_rate"]


def test_counting_goes_by_the_configured_feature_or_the_first_that_is_no_id(manifest):
    assert default_category(manifest.schema, "topic") == "topic"
    assert default_category(manifest.schema, "nothing") == default_category(manifest.schema)
    assert default_category(manifest.schema) not in manifest.schema.item_ids


def test_a_sentence_says_what_a_model_does_not_beat():
    yardsticks = {
        "item_rate": {"label": "item rate", "auc": 0.6, "gauc": None},
        "trees": {"label": "boosted trees", "auc": 0.58, "gauc": 0.55},
    }
    assert best_yardstick(yardsticks, "auc") == "item_rate" and best_yardstick(yardsticks, "gauc") == "trees"
    assert not_beaten({"auc": 0.61, "gauc": 0.56}, yardsticks) is None
    assert not_beaten({"auc": 0.59, "gauc": 0.56}, yardsticks) == (
        "the model does not beat what needs no network: AUC 0.5900 against 0.6000 of item rate"
    )
    assert not_beaten({"auc": None, "gauc": None}, yardsticks) is None
