"""Beyond the paper: attention that may look at nothing, equal values, soft counts, tables for relevance alone."""

import dataclasses

import numpy as np
import pytest

from tests.reference import network
from tests.twin_tf.models.test_faithful import check_network, places, trained_like
from tests.twin_tf.toy import ITEMS, make_batch, make_model
from twin_tf.config import load_config
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.keras_api import tf
from twin_tf.training.train_step import TrainStep
from twin_tf.training_settings import TrainingConfig

LENGTHS = [30, 0, 1, 9, 60]


def batch_of(lengths=LENGTHS, seed=3):
    return make_batch(np.random.default_rng(seed), lengths)


def test_a_null_key_far_below_everything_is_the_papers_softmax():
    plain, null = (make_model(null_key=on, relevance_statistics=False) for on in (False, True))
    null.long_term.null_key.offset.assign(tf.fill([3], -1e9))
    np.testing.assert_array_equal(null(batch_of()), plain(batch_of()))


def test_what_is_below_the_null_key_in_every_head_is_left_out():
    model, batch = trained_like(null_key=True, top_k=20), batch_of()
    everything = model.score(batch).long_term.retrieved
    model.long_term.null_key.offset.assign(tf.fill([3], 1.0))
    check_network(model, batch)  # the equations leave out the same ones
    found = model.score(batch).long_term
    dropped = 0
    for user in range(len(LENGTHS)):
        for target in range(3):
            kept, before = places(found.retrieved, user, target), places(everything, user, target)
            dropped += len(before) - len(kept)
            alpha = network.alpha_of(model, model.long_term, batch, user, target)
            own = network.self_relevance(model, model.long_term, batch, user, target)
            null = network.numbers(model.long_term.null_key.scale) * own + 1.0
            assert all((alpha[:, place] >= null - 1e-5).any() for place in kept)
    assert dropped > 15
    assert not found.output[1].numpy().any()  # without a history, nothing
    assert float(model.gsu_overlap(batch)) == 1.0


def test_attention_falls_as_the_null_key_rises_and_its_weights_learn():
    model, batch = trained_like(null_key=True), batch_of()
    mass = []
    for offset in (-8.0, 0.0, 2.0):
        model.long_term.null_key.offset.assign(tf.fill([3], offset))
        mass.append(float(tf.reduce_sum(model.score(batch).long_term.weights)))
    assert mass[0] > mass[1] > mass[2] > 0
    model.long_term.null_key.offset.assign(tf.fill([3], -1.0))
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch)
    key = model.long_term.null_key
    assert all(np.abs(gradient).max() > 0 for gradient in tape.gradient(loss, [key.scale, key.offset]))


def test_equal_values_raise_relevance_of_items_that_no_table_knows_apart():
    """With all embeddings zero, the search finds the target's own item by whole numbers alone."""
    model = make_model(equality_bias=True, top_k=1, bias=False, heads=1)
    for table in model.item_embedding.tables:
        table.assign(tf.zeros_like(table))
    model.long_term.equality_bias.kernel.assign([[2.0], [1.0]])
    batch = batch_of([60, 50])
    history = batch.history._replace(item=tf.random.uniform([2, 60], 2, ITEMS + 2, tf.int32, seed=1))
    own = tf.gather(history.item, [7, 30, 11], axis=1)  # each target was met before
    batch = batch._replace(
        history=history, targets=batch.targets._replace(item=own, end=tf.constant([[60] * 3, [50] * 3]))
    )
    found = model.score(batch).long_term.retrieved
    for user in range(2):
        for target in range(3):
            (place,) = places(found, user, target)
            assert history.item[user, place] == own[user, target]


def test_a_pooling_search_refuses_what_needs_behaviours():
    for option in ({"equality_bias": True}, {"graded_counts": (1.0,)}):
        with pytest.raises(ConfigError, match="pools behaviours into entries, which equal no target"):
            make_model(search="avg_pooling", **option)
    model, batch = make_model(search="avg_pooling", null_key=True), batch_of()
    model.long_term.null_key.offset.assign(tf.fill([3], -1e9))
    plain = make_model(search="avg_pooling")
    np.testing.assert_allclose(model(batch), plain(batch), atol=1e-6)


@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_relevance_tables_have_a_rate_of_their_own(rate):
    model = make_model(decoupled_embeddings=True, decoupled_dim=3)
    config = TrainingConfig(embedding_learning_rate=0.05, relevance_learning_rate=rate)
    step, before = TrainStep(model, config), [table.numpy() for table in model.relevance_embedding.tables]
    values = [table.numpy() for table in model.item_embedding.tables]
    for seed in range(3):
        step.step(batch_of(seed=seed))
    moved = [
        np.abs(table.numpy() - old).max() for table, old in zip(model.relevance_embedding.tables, before, strict=True)
    ]
    assert all((size > 1e-4) == (rate > 0) for size in moved)
    assert all(
        np.abs(table.numpy() - old).max() > 1e-4 for table, old in zip(model.item_embedding.tables, values, strict=True)
    )
    assert step.set_rates(0, 0.0)["relevance"] == rate


def test_relevance_tables_without_a_rate_of_their_own_train_as_all_tables():
    batch, found = batch_of(), []
    for rate in (None, 0.05):
        model = make_model(decoupled_embeddings=True, decoupled_dim=3)
        step = TrainStep(model, TrainingConfig(embedding_learning_rate=0.05, relevance_learning_rate=rate))
        for _ in range(2):
            step.step(batch)
        found.append(model(batch).numpy())
    np.testing.assert_array_equal(*found)


def test_a_rate_for_tables_that_do_not_exist_is_refused():
    with pytest.raises(ConfigError, match="relevance_learning_rate is the rate of tables for the relevance alone"):
        load_config("simulated", ["training.relevance_learning_rate=0"])
    assert load_config("simulated", ["training.relevance_learning_rate=0", "model.decoupled_embeddings=true"])


def test_the_equality_bias_has_a_bound(monkeypatch):
    monkeypatch.setattr("twin_tf.models.twin.MOST_FEATURES", 1)
    with pytest.raises(ConfigError, match="takes at most 1 inherent features, and the schema has 2"):
        make_model(equality_bias=True)


def test_levels_of_counts_are_checked():
    with pytest.raises(ConfigError, match="graded_counts must lie between 0 and 2"):
        dataclasses.replace(make_model().config, graded_counts=(3.0,))
