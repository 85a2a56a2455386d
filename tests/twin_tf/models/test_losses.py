"""The weighted loss against plain Python, its parts over replicas, and where nothing weighs anything."""

import numpy as np
import pytest

from tests.reference.pooling import weighted_loss
from tests.twin_tf.toy import make_batch, make_model, pad
from twin_tf.config import load_config
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.keras_api import tf
from twin_tf.models.losses import ClickLoss
from twin_tf.training_settings import TrainingConfig


def targets(users=5, columns=7):
    generator = np.random.default_rng(11)
    shape = (users, columns)
    return (
        generator.normal(0, 3, shape).astype(np.float32),
        generator.integers(0, 2, shape).astype(np.float32),
        (generator.exponential(1, shape) * (generator.random(shape) < 0.8)).astype(np.float32),
        generator.integers(0, columns + 1, users).astype(np.int32),
    )


SMOOTHING, CLASSES = {"label_smoothing": 0.1}, {"class_weights": (0.0, 3.0)}


@pytest.mark.parametrize("settings", [{}, SMOOTHING, CLASSES, SMOOTHING | CLASSES])
def test_the_sums_are_those_of_the_definition(settings):
    logits, labels, weights, count = targets()
    total, denominator = ClickLoss(TrainingConfig(**settings))(*map(tf.constant, (logits, labels, weights, count)))
    expected = weighted_loss(
        logits, labels, weights, count, settings.get("label_smoothing", 0), settings.get("class_weights", (1, 1))
    )
    np.testing.assert_allclose([total, denominator], expected, rtol=1e-5)
    assert expected[1] > 0


def test_the_sums_of_parts_add_up_to_those_of_the_whole():
    logits, labels, weights, count = targets()
    loss = ClickLoss(TrainingConfig(class_weights=(1.0, 2.0)))
    whole = loss(*map(tf.constant, (logits, labels, weights, count)))
    parts = [loss(*(tf.constant(v[rows]) for v in (logits, labels, weights, count))) for rows in ([0, 1], [2, 3, 4])]
    np.testing.assert_allclose(np.sum(parts, axis=0), whole, rtol=1e-6)
    means = [total / denominator for total, denominator in parts]
    assert abs(np.mean(means) - whole[0] / whole[1]) > 1e-3  # which is why they are kept apart


def test_the_model_s_loss_is_the_weighted_mean_of_real_targets_alone():
    model, batch = make_model(), make_batch(np.random.default_rng(1), [9, 4])
    plain = model.compute_loss(batch)
    logits, labels = model(batch).numpy(), batch.label.numpy()
    expected = weighted_loss(logits, labels, np.ones_like(labels), [3, 3])
    np.testing.assert_allclose(plain, expected[0] / 6, rtol=1e-5)
    weights = np.array([[0.5, 0, 2], [3, 1, 0]], np.float32)
    batch = batch._replace(weight=tf.constant(weights))
    total, denominator = weighted_loss(logits, labels, weights, [3, 3])
    np.testing.assert_allclose(model.compute_loss(batch), total / denominator, rtol=1e-5)
    np.testing.assert_allclose(model.loss_sums(batch), (total, denominator, 0), rtol=1e-5)
    garbage = pad(batch, 2, 4)
    garbage = garbage._replace(weight=tf.concat([batch.weight, tf.fill([2, 4], float("nan"))], axis=1))
    np.testing.assert_allclose(model.compute_loss(garbage), total / denominator, rtol=1e-5)


def test_without_any_weight_loss_and_gradients_are_zero():
    model, batch = make_model(), make_batch(np.random.default_rng(1), [9, 4])
    batch = batch._replace(weight=tf.zeros_like(batch.weight))
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch)
    assert loss == 0
    for gradient in tape.gradient(loss, model.trainable_variables):
        assert not tf.convert_to_tensor(gradient).numpy().any()
    empty = batch._replace(targets=batch.targets._replace(count=tf.zeros_like(batch.targets.count)))
    assert model.compute_loss(empty) == 0


def test_the_model_trains_on_the_configured_loss():
    batch = make_batch(np.random.default_rng(1), [9, 4])
    config = TrainingConfig(label_smoothing=0.3, class_weights=(1.0, 4.0))
    model = make_model(training=config)
    expected = weighted_loss(model(batch).numpy(), batch.label.numpy(), batch.weight.numpy(), [3, 3], 0.3, (1.0, 4.0))
    np.testing.assert_allclose(model.compute_loss(batch), expected[0] / expected[1], rtol=1e-5)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("label_smoothing=-0.1", "training: label_smoothing must be at least 0 and less than 1, not -0.1"),
        ("label_smoothing=1", "training: label_smoothing must be at least 0 and less than 1, not 1.0"),
        ("label_smoothing=.nan", "training: label_smoothing must be at least 0 and less than 1, not nan"),
        ("class_weights=[1]", "not [1.0]"),
        ("class_weights=[1, -1]", "not [1.0, -1.0]"),
        ("class_weights=[0, 0]", "not [0.0, 0.0]"),
        ("class_weights=[1, .nan]", "not [1.0, nan]"),
        ("class_weights=[1, .inf]", "not [1.0, inf]"),
        ("class_weights=2", "training.class_weights must be a list, not 2"),
    ],
)
def test_settings_that_make_no_loss_are_refused(setting, sentence):
    with pytest.raises(ConfigError) as caught:
        load_config(None, [f"training.{setting}"])
    assert str(caught.value).endswith(sentence)
    assert setting.split("=")[0] in str(caught.value)


def test_settings_survive_being_written():
    config = load_config(None, ["training.label_smoothing=0.1", "training.class_weights=[1, 2.5]"])
    assert config.to_plain()["training"] == {"label_smoothing": 0.1, "class_weights": [1.0, 2.5]}
    assert (config.training.label_smoothing, config.training.class_weights) == (0.1, (1.0, 2.5))
