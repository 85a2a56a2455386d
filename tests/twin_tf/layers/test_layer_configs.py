"""Every layer can be made again from its configuration and filled again from a file."""

import json

import numpy as np
import pytest

from tests.twin_tf.searching import searching
from tests.twin_tf.toy import make_batch, make_model
from twin_tf.core.keras_api import keras, tf
from twin_tf.models.twin import TwinModel
from twin_tf.search import STRATEGIES

OPTIONS = [
    {},
    {"relevance": "raw", "bias": False},
    {"decoupled_embeddings": True, "crosses": 1, "cross_projection": 2},
    {"consistency": "auxiliary", "search": "din", "relevance_statistics": False},
    {"precision": "bfloat16", "short_term_length": 0},
    {"relevance_init_scale": 3.0},
    *({"search": search} for search in STRATEGIES),
]


def made(options):
    return searching(**options) if "search" in options else make_model(**options)


def our_layers(module):
    """The layers of this project in a model, the model itself first."""
    found = [layer for layer in (module, *module.submodules) if isinstance(layer, keras.layers.Layer)]
    return [layer for layer in found if type(layer).__module__.startswith("twin_tf.")]


def again(layer):
    """The layer that its configuration, written as JSON and read back, makes."""
    return keras.layers.deserialize(json.loads(json.dumps(keras.layers.serialize(layer))))


@pytest.mark.parametrize("options", OPTIONS)
def test_every_layer_is_made_again_from_its_configuration(options):
    model = made(options)
    kinds = {type(layer).__name__ for layer in our_layers(model)}
    assert {"TwinModel", "ItemEmbedding", "CrossEmbedding", "FeatureEmbedding", "AttentionBlock", "Mixer"} <= kinds
    for layer in our_layers(model):
        same = again(layer)
        assert type(same) is type(layer)
        assert same.get_config() == layer.get_config()
        assert [tuple(w.shape) for w in same.weights] == [tuple(w.shape) for w in layer.weights], layer.name


@pytest.mark.parametrize("options", OPTIONS)
def test_a_model_made_again_and_loaded_scores_the_same_bits(options, tmp_path):
    model, batch = made(options), make_batch(np.random.default_rng(5), [30, 3, 0])
    path = tf.train.Checkpoint(model=model).write(str(tmp_path / "weights"))
    same = again(model)
    assert isinstance(same, TwinModel)
    assert (same(batch).numpy() != model(batch).numpy()).any()
    tf.train.Checkpoint(model=same).read(path).assert_consumed()
    np.testing.assert_array_equal(same(batch), model(batch))
