"""The mixer against NumPy, with and without feature crosses; as configuration and as files."""

import numpy as np
import pytest

from tests.twin_tf.toy import make_batch, make_model
from twin_tf.config import load_config
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.keras_api import keras, tf
from twin_tf.layers.mixer import Mixer

WIDTH = 6
OPTIONS = [{}, {"crosses": 1}, {"crosses": 2}, {"crosses": 2, "cross_projection": 2}]


def built(**options):
    mixer = Mixer((5, 3), **options)
    mixer.build((None, None, WIDTH))
    generator = np.random.default_rng(2)
    for variable in mixer.variables:
        variable.assign(generator.normal(0, 0.5, variable.shape))
    return mixer


def reference(mixer, start):
    mixed, weights = start, [variable.numpy() for variable in mixer.variables]
    for _ in mixer.crosses:
        if mixer.cross_projection is None:
            kernel, bias, *weights = weights
        else:
            down, up, bias, *weights = weights
            kernel = down @ up
        mixed = start * (mixed @ kernel + bias) + mixed
    while len(weights) > 2:
        kernel, bias, *weights = weights
        mixed = np.maximum(mixed @ kernel + bias, 0)
    return (mixed @ weights[0] + weights[1])[..., 0]


@pytest.mark.parametrize("options", OPTIONS)
def test_crosses_are_stacked_under_the_dense_layers(options):
    mixer = built(**options)
    inputs = np.random.default_rng(3).normal(size=(2, 4, WIDTH)).astype(np.float32)
    found = mixer(tf.constant(inputs))
    assert found.shape == (2, 4)
    np.testing.assert_allclose(found, reference(mixer, inputs), atol=1e-5)


@pytest.mark.parametrize(("options", "weights"), zip(OPTIONS, (6, 8, 10, 12), strict=True))
def test_build_makes_every_weight(options, weights):
    mixer = built(**options)
    assert len(mixer.trainable_variables) == weights
    mixer(tf.zeros([1, 1, WIDTH]))
    assert len(mixer.variables) == weights
    shapes = [tuple(variable.shape) for variable in mixer.variables][-6:]
    assert shapes == [(WIDTH, 5), (5,), (5, 3), (3,), (3, 1), (1,)]


@pytest.mark.parametrize("options", OPTIONS)
def test_a_mixer_survives_its_configuration_and_being_saved(options, tmp_path):
    mixer, inputs = built(**options), tf.constant(np.random.default_rng(4).normal(size=(3, 2, WIDTH)), tf.float32)
    again = Mixer.from_config(mixer.get_config())
    again.build((None, None, WIDTH))
    again.set_weights(mixer.get_weights())
    np.testing.assert_array_equal(again(inputs), mixer(inputs))
    model = keras.Sequential([keras.Input((None, WIDTH)), mixer])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(inputs), model(inputs))
    checkpoint = tf.train.Checkpoint(mixer=mixer).save(str(tmp_path / "checkpoint"))
    fresh = Mixer.from_config(mixer.get_config())
    fresh.build((None, None, WIDTH))
    tf.train.Checkpoint(mixer=fresh).restore(checkpoint).assert_consumed()
    np.testing.assert_array_equal(fresh(inputs), mixer(inputs))


@pytest.mark.parametrize("options", OPTIONS)
def test_what_is_not_finite_reaches_the_logit(options):
    """In a graph TensorFlow may fuse a product with its ReLU, and on CPUs that takes NaN for 0."""
    mixer = built(**options)
    inputs = np.random.default_rng(5).normal(size=(4, 8, WIDTH)).astype(np.float32)
    inputs[1, 2, 3] = np.nan
    found = tf.function(mixer, input_signature=[tf.TensorSpec([None, None, WIDTH])])(tf.constant(inputs)).numpy()
    assert np.argwhere(np.isnan(found)).tolist() == [[1, 2]]


def test_a_mixer_in_bfloat16_keeps_its_weights_in_float32():
    inputs = tf.constant(np.random.default_rng(3).normal(size=(2, 4, WIDTH)), tf.float32)
    wanted = built(crosses=2, cross_projection=2)
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        mixer = built(crosses=2, cross_projection=2)
        found = mixer(inputs)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert found.dtype == tf.bfloat16
    assert {variable.dtype for variable in mixer.variables} == {tf.float32}
    np.testing.assert_allclose(tf.cast(found, tf.float32), wanted(inputs), rtol=0.05, atol=0.05)


def test_the_model_trains_its_crosses_with_the_dense_weights():
    model, batch = make_model(crosses=2, cross_projection=4), make_batch(np.random.default_rng(1), [9, 4])
    assert len(model.mixer.crosses) == 2
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch)
    gradients = dict(
        zip([v.ref() for v in model.dense_variables], tape.gradient(loss, model.dense_variables), strict=True)
    )
    for cross in model.mixer.crosses:
        assert len(cross.trainable_variables) == 3
        for variable in cross.trainable_variables:
            assert np.abs(gradients[variable.ref()].numpy()).max() > 0


def test_there_are_no_crosses_unless_asked_for():
    assert make_model().mixer.crosses == []
    config = load_config(None, ["model.crosses=2", "model.cross_projection=8"])
    assert config.to_plain()["model"] == {"crosses": 2, "cross_projection": 8}


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("crosses=-1", "model: crosses must not be negative, not -1"),
        ("cross_projection=0", "model: cross_projection must be at least 1, not 0"),
    ],
)
def test_settings_that_make_no_cross_are_refused(setting, sentence):
    with pytest.raises(ConfigError) as caught:
        load_config(None, [f"model.{setting}"])
    assert str(caught.value) == sentence
