"""Items that now and then lose their id in training, and tables that are put back between epochs."""

import dataclasses

import numpy as np
import pytest

from tests.twin_tf.small_run import small_config, untrained
from tests.twin_tf.toy import ITEMS, make_batch, make_model, make_schema
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.keras_api import tf
from twin_tf.features.schema import FIRST_KNOWN, UNKNOWN
from twin_tf.layers.id_dropout import IdDropout
from twin_tf.training.train import train_model
from twin_tf.training.train_step import TrainStep
from twin_tf.training_settings import TrainingConfig

pytestmark = pytest.mark.integration

RATE = 0.3


def dropout_of(batch):
    return IdDropout.of_batch(RATE, batch.targets.item, batch.user_id)


@pytest.mark.parametrize("rate", [0.01, 0.3, 0.9])
def test_as_many_items_lose_their_id_as_the_rate_says_others_in_each_batch(rate):
    rows = tf.range(50_000)
    drops = [IdDropout(rate, tf.constant(seed, tf.int64)).dropped(rows).numpy() for seed in range(20)]
    error = np.sqrt(rate * (1 - rate) / len(rows))
    assert all(abs(drop.mean() - rate) < 5 * error for drop in drops)
    together = np.mean([(a & b).mean() for a, b in zip(drops, drops[1:], strict=False)])
    assert together == pytest.approx(rate**2, abs=5 * error)
    neighbours = np.mean([(drop[1:] & drop[:-1]).mean() for drop in drops])
    assert neighbours == pytest.approx(rate**2, abs=5 * error)


def test_batches_of_other_targets_or_users_drop_others():
    batch = make_batch(np.random.default_rng(1), [20, 30])
    rows = tf.range(50_000)
    first = dropout_of(batch).dropped(rows).numpy()
    np.testing.assert_array_equal(dropout_of(batch).dropped(rows), first)
    others = batch._replace(user_id=batch.user_id + 5)
    swapped = batch._replace(targets=batch.targets._replace(item=batch.targets.item[::-1]))
    for other in (others, swapped):
        assert (dropout_of(other).dropped(rows).numpy() != first).mean() == pytest.approx(
            2 * RATE * (1 - RATE), abs=0.02
        )


@pytest.mark.parametrize(
    "changes", [{}, {"decoupled_embeddings": True}, {"consistency": "auxiliary"}, {"relevance": "raw"}]
)
def test_a_dropped_item_is_trained_as_a_new_one_with_the_same_features(changes):
    training = TrainingConfig(id_dropout=RATE)
    model, batch = make_model(training=training, **changes), make_batch(np.random.default_rng(2), [40, 25, 0])
    lost = dropout_of(batch).dropped(tf.range(ITEMS + FIRST_KNOWN)).numpy()
    lost[:FIRST_KNOWN] = False
    assert 0 < lost.sum() < ITEMS
    trained = model.loss_sums(batch, training=True)
    whole = model.loss_sums(batch)
    features = model.item_embedding.item_features.numpy()
    features[lost, 0] = UNKNOWN
    for part in (model, model.auxiliary):
        if part is not None:
            part.item_embedding.item_features.assign(features)
            part.relevance_embedding.item_features.assign(features)
    expected = model.loss_sums(batch)
    for found, value, other in zip(trained, expected, whole, strict=True):
        assert float(found) == pytest.approx(float(value), rel=1e-5)
        if float(value) and float(value) != float(trained.weight):
            assert float(found) != pytest.approx(float(other), rel=1e-5)


def test_the_unknown_row_learns_from_dropped_items_alone():
    batch = make_batch(np.random.default_rng(3), [40, 25])
    known = tf.nest.map_structure(lambda rows: tf.maximum(rows, FIRST_KNOWN), (batch.history.item, batch.targets.item))
    batch = batch._replace(history=batch.history._replace(item=known[0]), targets=batch.targets._replace(item=known[1]))
    for rate in (0.0, RATE):
        settings = TrainingConfig(id_dropout=rate)
        model = make_model(training=settings)
        before = model.item_embedding.tables[0].numpy()[UNKNOWN]
        TrainStep(model, settings).step(batch)
        assert (model.item_embedding.tables[0].numpy()[UNKNOWN] != before).any() == bool(rate)


def test_without_a_feature_of_the_id_nothing_can_be_dropped():
    schema = make_schema()
    bare = dataclasses.replace(schema, features=schema.features[1:])
    assert schema.item_ids == ("video",) and bare.item_ids == ()
    with pytest.raises(ConfigError, match="id_dropout needs an inherent feature of the item's id"):
        make_model(training=TrainingConfig(id_dropout=RATE), schema=bare)


@pytest.mark.parametrize("projections", ["live", "cached"])
def test_tables_are_put_back_and_dense_weights_stay(projections):
    settings = TrainingConfig(projections=projections)
    model = make_model(training=settings, consistency="auxiliary" if projections == "live" else "shared")
    start = [variable.numpy() for variable in make_model(training=settings).embedding_variables]
    trainer = TrainStep(model, settings)
    trainer.step(make_batch(np.random.default_rng(4), [40, 25]))
    dense = [variable.numpy() for variable in model.dense_variables]
    adagrad = trainer.optimizer.optimizers[0]
    cross = {table.ref() for table in model.cross_embedding.tables.values()}  # the toy draws these of its own
    trainer.redraw_tables()
    for variable, value in zip(model.embedding_variables, start, strict=False):
        if variable.ref() not in cross:
            np.testing.assert_array_equal(variable, value)
        np.testing.assert_array_equal(adagrad.get_slot(variable, "accumulator"), np.full(value.shape, 0.1, np.float32))
    for variable, value in zip(model.dense_variables, dense, strict=True):
        np.testing.assert_array_equal(variable, value)
    if projections == "cached":
        np.testing.assert_array_equal(model.projection_cache, model.projection_table())


def test_each_epoch_but_the_first_begins_with_tables_put_back(prepared, tmp_path, run, monkeypatch):
    seen = []

    def redrawn(trainer, put_back=TrainStep.redraw_tables):
        table = trainer.model.item_embedding.tables[0]
        seen.append(table.numpy())
        put_back(trainer)
        seen.append(table.numpy())

    monkeypatch.setattr(TrainStep, "redraw_tables", redrawn)
    train_model(prepared, tmp_path / "run", small_config("training.redraw_tables=true"))
    before, after = seen
    np.testing.assert_array_equal(after, untrained(tmp_path / "run")[0].item_embedding.tables[0])
    assert (before != after).any()


def test_tables_of_an_earlier_run_are_not_put_back(prepared, tmp_path, run):
    with pytest.raises(ConfigError, match="redraw_tables would forget"):
        train_model(prepared, tmp_path / "new", small_config("training.redraw_tables=true"), init_from=run)
