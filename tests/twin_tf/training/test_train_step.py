"""One step: what it changes, what it refuses to change, and by how much."""

import numpy as np
import pytest

from tests.twin_tf.small_run import small_config
from twin_tf.core.keras_api import tf
from twin_tf.models.twin import TwinModel
from twin_tf.records.input_pipeline import make_dataset
from twin_tf.runs.run import RunInfo, build_model
from twin_tf.training.train_step import FINAL_RATE, TrainStep
from twin_tf.training_settings import TrainingConfig

pytestmark = pytest.mark.integration


@pytest.fixture
def make_model(manifest, prepared):
    config = small_config("model.heads=1", "model.relevance_statistics=false")
    info = RunInfo(manifest.schema_fingerprint, manifest.cardinalities, str(prepared))
    return lambda: build_model(prepared, config, info)[0]


@pytest.fixture
def model(make_model):
    return make_model()


@pytest.fixture(scope="module")
def batch(manifest):
    return next(iter(make_dataset(manifest, "train", 300, 4)))


def settings(**changed):
    return TrainingConfig(embedding_learning_rate=0.05, dense_learning_rate=0.001, **changed)


def everything(trainer):
    variables = [*trainer.model.variables, *trainer.optimizer.variables()]
    return [variable.numpy() for variable in variables]


def gradients(model, batch):
    """Gradient of the mean loss by each trained weight, dense."""
    variables = [*model.embedding_variables, *model.dense_variables]
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch, training=True)
    found = tape.gradient(loss, variables, unconnected_gradients="zero")
    return [tf.convert_to_tensor(gradient).numpy() for gradient in found]


def test_a_step_needs_no_run_and_tells_what_it_learned_from(model, batch):
    trainer = TrainStep(model, settings())
    before = float(model.compute_loss(batch))
    learned = trainer.step(batch)
    assert learned.loss == pytest.approx(before, rel=1e-6)
    assert int(learned.targets) == int(learned.weight) == int(tf.reduce_sum(batch.targets.count))
    assert (int(learned.records), int(learned.steps)) == (4, 1)
    assert trainer.step(batch).loss < before


def test_a_step_changes_only_the_rows_that_the_batch_has_read(model, batch):
    trainer = TrainStep(model, settings())
    table = model.item_embedding.tables[0]
    before = table.numpy()
    trainer.step(batch)
    rows = np.concatenate([batch.history.item.numpy().ravel(), batch.targets.item.numpy().ravel()])
    unread = np.setdiff1d(np.arange(len(before)), model.item_embedding.item_features.numpy()[np.unique(rows), 0])
    slot = trainer.optimizer.optimizers[0].get_slot(table, "accumulator").numpy()
    assert len(unread) > 100
    np.testing.assert_array_equal(table.numpy()[unread], before[unread])
    np.testing.assert_array_equal(slot[unread], np.full_like(slot[unread], 0.1))
    assert (table.numpy() != before).any(axis=1).sum() > 100


def first_moments(model, batch, clip_norm):
    trainer = TrainStep(model, settings(clip_norm=clip_norm))
    trainer.step(batch)
    adam = trainer.optimizer.optimizers[1]
    return np.concatenate([adam.get_slot(variable, "m").numpy().ravel() for variable in model.dense_variables])


def test_clipping_scales_all_gradients_by_their_global_norm(make_model, batch):
    found = gradients(make_model(), batch)
    norm = np.sqrt(sum(np.sum(np.square(gradient, dtype=np.float64)) for gradient in found))
    plain = first_moments(make_model(), batch, None)
    np.testing.assert_allclose(
        first_moments(make_model(), batch, norm / 4), plain / 4, rtol=1e-4, atol=1e-4 * np.abs(plain).max()
    )
    np.testing.assert_array_equal(first_moments(make_model(), batch, norm * 1.01), plain)


def test_the_norm_counts_a_row_that_was_read_twice_once(model):
    trainer = TrainStep(model, settings(clip_norm=1.0))
    twice = tf.IndexedSlices(tf.constant([[3.0], [1.0], [3.0]]), tf.constant([5, 2, 5]), tf.constant([9, 1]))
    (clipped,) = trainer._checked(tf.constant(1.0), [twice])
    dense = tf.convert_to_tensor(clipped).numpy()[:, 0]
    np.testing.assert_allclose(dense[[2, 5]], np.array([1, 6]) / np.sqrt(37), rtol=1e-6)
    assert isinstance(clipped, tf.IndexedSlices) and len(clipped.indices) == 2


@pytest.mark.parametrize("clip", [None, 4])
@pytest.mark.parametrize("form", ["sum", "mean"])
def test_tables_learn_from_a_sum_and_dense_weights_from_a_mean(form, clip, make_model, batch, monkeypatch):
    mean = gradients(make_model(), batch)
    norm = np.sqrt(sum(np.sum(np.square(gradient, dtype=np.float64)) for gradient in mean))
    model, applied = make_model(), []
    trainer = TrainStep(model, settings(table_gradient=form, clip_norm=None if clip is None else norm / clip))
    monkeypatch.setattr(trainer.optimizer, "apply_gradients", lambda pairs, **_: applied.extend(pairs))
    targets = int(trainer.replica_step(batch).targets)
    found = {variable.ref(): gradient for gradient, variable in applied}
    assert isinstance(found[model.item_embedding.tables[0].ref()], tf.IndexedSlices)
    assert targets > 50
    tables = len(model.embedding_variables)
    for number, variable in enumerate([*model.embedding_variables, *model.dense_variables]):
        factor = (targets if form == "sum" and number < tables else 1) / (clip or 1)
        expected = mean[number] * factor
        np.testing.assert_allclose(
            tf.convert_to_tensor(found[variable.ref()]), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max()
        )


def test_a_loss_that_is_not_finite_changes_nothing(model, batch):
    trainer = TrainStep(model, settings())
    trainer.step(batch)
    model.dense_variables[-1].assign(tf.fill(model.dense_variables[-1].shape, float("nan")))
    before = everything(trainer)
    with pytest.raises(FloatingPointError, match=r"^the loss is no longer finite; lower training\.dense_learning_rate"):
        trainer.step(batch)
    for value, old in zip(everything(trainer), before, strict=True):
        np.testing.assert_array_equal(value, old)


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_a_gradient_that_is_not_finite_changes_nothing_though_the_loss_is(clip_norm, model, batch, monkeypatch):
    sums = TwinModel.loss_sums

    def with_a_corner(self, *arguments, **named):
        found = sums(self, *arguments, **named)
        corner = tf.sqrt(0.0 * tf.reduce_sum(self.embedding_variables[0]))  # 0, with slope 0 / 0
        return found._replace(own=found.own + corner)

    monkeypatch.setattr(TwinModel, "loss_sums", with_a_corner)
    trainer = TrainStep(model, settings(clip_norm=clip_norm))
    before = everything(trainer)
    with pytest.raises(FloatingPointError, match=r"^the gradient is no longer finite; .* set training\.clip_norm$"):
        trainer.step(batch)
    for value, old in zip(everything(trainer), before, strict=True):
        np.testing.assert_array_equal(value, old)


def test_other_errors_keep_their_name(model, batch):
    wrong = batch._replace(label=batch.label[:2])
    with pytest.raises(tf.errors.InvalidArgumentError):
        TrainStep(model, settings()).step(wrong)


@pytest.mark.parametrize(
    ("schedule", "warmup", "steps", "progress", "expected"),
    [
        ("constant", 0, 0, 0.0, 1.0),
        ("constant", 0, 10**6, 1.0, 1.0),
        ("constant", 4, 0, 0.0, 0.25),
        ("constant", 4, 3, 0.0, 1.0),
        ("constant", 4, 4, 0.0, 1.0),
        ("cosine", 0, 0, 0.0, 1.0),
        ("cosine", 0, 5, 0.5, 0.5),
        ("cosine", 0, 9, 1.0, FINAL_RATE),
        ("cosine", 0, 9, 1.2, FINAL_RATE),
        ("cosine", 10, 4, 0.5, 0.25),
    ],
)
def test_the_rates_rise_and_fall(schedule, warmup, steps, progress, expected, model):
    trainer = TrainStep(model, settings(schedule=schedule, warmup_steps=warmup))
    rates = trainer.prepare_step(steps, progress)
    assert rates == pytest.approx({"embedding": 0.05 * expected, "dense": 0.001 * expected})


def test_the_first_step_of_adam_is_as_long_as_its_rate(model, batch):
    trainer = TrainStep(model, settings(warmup_steps=10))
    trainer.prepare_step(0, 0.0)
    before = [variable.numpy() for variable in model.dense_variables]
    trainer.step(batch)
    longest = max(np.abs(v.numpy() - old).max() for v, old in zip(model.dense_variables, before, strict=True))
    assert longest == pytest.approx(0.0001, rel=1e-3)


def test_overlap_is_whole_with_live_weights(model, batch):
    assert TrainStep(model, settings()).attention_figures(batch).overlap == 1.0


def test_a_cached_table_ages_until_it_is_refreshed(model, batch):
    trainer = TrainStep(model, settings(projections="cached", refresh_steps=3))
    found = []
    for steps in range(4):
        found.append(trainer.attention_figures(batch).overlap)
        trainer.prepare_step(steps, 0.0, steps - 1)
        found.append(trainer.attention_figures(batch).overlap)
        trainer.step(batch)
    fresh = [found[0], found[1], found[7]]
    assert fresh == [1.0, 1.0, 1.0]
    assert max(found[2:7]) < 1.0


@pytest.mark.parametrize(("steps", "before", "fresh"), [(5, 4, False), (7, 5, True), (6, 5, True), (20, 6, True)])
def test_a_round_of_several_steps_passes_no_refresh_by(steps, before, fresh, model, batch):
    trainer = TrainStep(model, settings(projections="cached", refresh_steps=3))
    trainer.step(batch)
    trainer.prepare_step(steps, 0.0, before)
    assert (trainer.attention_figures(batch).overlap == 1.0) == fresh
