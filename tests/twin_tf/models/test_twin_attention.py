"""`TwinAttention`, the layer that needs tensors alone, against the papers' equations and as a part of Keras models."""

import numpy as np
import pytest

from tests.reference.attention import merge_heads
from twin_tf.core.keras_api import keras, tf
from twin_tf.features.schema import FIRST_KNOWN
from twin_tf.layers import TwinAttention
from twin_tf.models.twin_attention import AGE

USERS, TARGETS, LENGTH, WIDTH, TOP = 4, 3, 60, 12, 7
DIMS, ROWS, AGES = {"dwell": 5, "place": 3}, {"dwell": 9}, [10, 100, 1000]
SETTINGS = {
    "heads": 3, "head_size": 4, "top_k": TOP, "cross_dims": DIMS, "cross_rows": ROWS, "age_boundaries": AGES,
    "age_dim": 2, "init": "independent", "init_scale": 4.0,
}  # fmt: skip


def inputs(seed=1):
    generator = np.random.default_rng(seed)
    shape = (USERS, LENGTH)
    return {
        "query": generator.normal(size=(USERS, TARGETS, WIDTH)).astype(np.float32),
        "items": generator.normal(size=(*shape, WIDTH)).astype(np.float32),
        "cross": {
            "dwell": generator.integers(0, 9, shape).astype(np.int32),
            "place": generator.normal(size=(*shape, 3)).astype(np.float32),
        },
        "ages": -np.sort(-generator.integers(0, 5000, shape)),
        "lengths": np.array([LENGTH, 40, 3, 0], np.int32),
    }


def shaken(layer, given):
    """The layer after a call, with weights that are all different."""
    layer(**tf.nest.map_structure(tf.constant, given))
    generator = np.random.default_rng(5)
    for variable in layer.trainable_variables:
        variable.assign_add(generator.normal(0, 0.5, variable.shape).astype(np.float32))
    return layer


def in_numpy(layer, given):
    """Eq. 6 to 8 in loops: (output, user and target -> {behaviour: weight by head})."""
    relevance, attention = layer.block.relevance, layer.block.attention
    heads, size = layer.heads, layer.head_size
    output, weights = np.zeros((USERS, TARGETS, heads * size)), {}
    tables = {name: table.numpy() for name, table in layer.tables.items()}
    for user, target in np.ndindex(USERS, TARGETS):
        length = given["lengths"][user]
        if not length:
            weights[user, target] = {}
            continue
        item = given["items"][user, :length]
        crossed = {
            "dwell": tables["dwell"][given["cross"]["dwell"][user, :length]],
            "place": given["cross"]["place"][user, :length],
            AGE: tables[AGE][FIRST_KNOWN + np.searchsorted(AGES, given["ages"][user, :length], side="right")],
        }
        beta = relevance.beta.numpy()
        bias = sum(
            beta[place] * crossed[name] @ relevance.cross_kernels[name].numpy()
            for place, name in enumerate(relevance.cross_names)
        )
        query = (given["query"][user, target] @ relevance.query_kernel.numpy()).reshape(heads, size)
        keys = (item @ relevance.item_kernel.numpy()).reshape(length, heads, size)
        alpha = np.einsum("lad,ad->al", keys, query) / np.sqrt(size) + bias.T
        chosen = list(merge_heads(alpha, [True] * length, TOP))
        softmax = np.exp(alpha[:, chosen] - alpha[:, chosen].max(axis=1, keepdims=True))
        softmax /= softmax.sum(axis=1, keepdims=True)
        values = item @ attention.item_kernel.numpy()
        values += np.concatenate(list(crossed.values()), axis=1) @ attention.cross_kernel.numpy()
        values = values.reshape(length, heads, size)[chosen]
        pooled = np.einsum("ak,kad->ad", softmax, values).reshape(-1)
        output[user, target] = pooled @ attention.output_kernel.numpy()
        weights[user, target] = dict(zip(chosen, softmax.T, strict=True))
    return output, weights


def assert_equal(found, expected):
    output, weights = expected
    np.testing.assert_allclose(found.output, output, rtol=1e-4, atol=1e-5)
    for (user, target), by_behaviour in weights.items():
        attention = found.weights[user, target].numpy().T
        got = {
            int(index): weight
            for index, weight in zip(found.indices[user, target].numpy(), attention, strict=True)
            if weight.sum() > 0
        }
        assert got.keys() == by_behaviour.keys()
        for behaviour, weight in by_behaviour.items():
            np.testing.assert_allclose(got[behaviour], weight, rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def layer():
    return shaken(TwinAttention(**SETTINGS), inputs())


def call(layer, **changes):
    given = {name: value for name, value in (inputs() | changes).items() if value is not None}
    return layer(**tf.nest.map_structure(tf.constant, given))


def test_it_computes_the_equations(layer):
    assert_equal(call(layer), in_numpy(layer, inputs()))


def test_the_items_are_rows_of_a_table_or_given(layer):
    given, generator = inputs(), np.random.default_rng(3)
    table = generator.normal(size=(20, WIDTH)).astype(np.float32)
    rows = generator.integers(0, 20, (USERS, LENGTH)).astype(np.int32)
    expected = in_numpy(layer, given | {"items": table[rows]})
    assert_equal(call(layer, items=table, rows=rows), expected)
    keys = layer.project_items(tf.constant(table))
    assert_equal(call(layer, items=table, rows=rows, keys=keys.numpy()), expected)


def test_with_keys_that_were_computed_ahead_nothing_is_projected(layer):
    given = inputs()
    keys = layer.project_items(tf.constant(given["items"])).numpy()
    assert_equal(call(layer, keys=keys), in_numpy(layer, given))
    others = call(layer, keys=keys[:, ::-1].copy())
    assert (others.indices.numpy() != call(layer).indices.numpy()).any()


def test_padding_may_lie_anywhere(layer):
    """A mask with holes gives what the real behaviours alone give, and the indices are those of the whole."""
    given, generator = inputs(), np.random.default_rng(4)
    valid = generator.random((USERS, LENGTH)) < 0.6
    valid[3] = False
    lengths = valid.sum(axis=1).astype(np.int32)
    order = np.argsort(~valid, axis=1, kind="stable")
    packed = tf.nest.map_structure(
        lambda value: np.take_along_axis(value, order.reshape(*order.shape, *[1] * (value.ndim - 2)), axis=1),
        {name: given[name] for name in ("items", "cross", "ages")},
    )
    output, weights = in_numpy(layer, given | packed | {"lengths": lengths})
    weights = {pair: {order[pair[0], place]: w for place, w in found.items()} for pair, found in weights.items()}
    assert_equal(call(layer, lengths=None, valid=valid), (output, weights))


def test_without_lengths_every_behaviour_is_real(layer):
    whole = np.full(USERS, LENGTH, np.int32)
    np.testing.assert_array_equal(call(layer, lengths=None).output, call(layer, lengths=whole).output)


def test_a_user_without_history_gets_zero(layer):
    found = call(layer)
    assert not found.output[3].numpy().any() and not found.weights[3].numpy().any()


def functional():
    given = inputs()
    symbols = tf.nest.map_structure(lambda value: keras.Input(value.shape[1:], dtype=value.dtype), given)
    found = TwinAttention(**SETTINGS)(**symbols)
    probability = keras.layers.Dense(1, activation="sigmoid")(found.output)
    return keras.Model(symbols, {"probability": probability, "indices": found.indices, "weights": found.weights})


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.attention = TwinAttention(**SETTINGS)
        self.dense = keras.layers.Dense(1, activation="sigmoid")

    def call(self, given):
        found = self.attention(**given)
        return {"probability": self.dense(found.output), "indices": found.indices, "weights": found.weights}


@pytest.mark.parametrize("make", [functional, Subclassed])
def test_it_trains_in_a_keras_model(make):
    model, given = make(), tf.nest.map_structure(tf.constant, inputs())
    label = tf.constant(np.random.default_rng(6).integers(0, 2, (USERS, TARGETS, 1)), tf.float32)
    optimizer = keras.optimizers.Adam(0.05)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(keras.losses.binary_crossentropy(label, model(given)["probability"]))
        weights = model.trainable_variables
        gradients = tape.gradient(loss, weights)
        assert all(gradient is not None for gradient in gradients)
        optimizer.apply_gradients(zip(gradients, weights, strict=True))
        return loss

    losses = [float(step()) for _ in range(20)]
    assert losses[-1] < 0.7 * losses[0]
    eager, traced = model(given), tf.function(model)(given)
    np.testing.assert_allclose(eager["probability"], traced["probability"], atol=1e-6)


@pytest.mark.parametrize("form", ["model.keras", "saved_model"])
def test_it_is_saved_and_loaded(form, tmp_path):
    model, given = functional(), tf.nest.map_structure(tf.constant, inputs())
    expected = model(given)
    model.save(tmp_path / form)
    loaded = keras.models.load_model(tmp_path / form)(given)
    for name, value in expected.items():
        np.testing.assert_array_equal(loaded[name], value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query": inputs()["query"][..., :5]}, "query must be"),
        ({"items": inputs()["items"][0]}, "items must be"),
        ({"cross": {}}, r"cross must hold \['dwell', 'place'\], not \[\]"),
        ({"cross": {**inputs()["cross"], "place": inputs()["cross"]["dwell"]}}, "must be embeddings"),
        ({"cross": {**inputs()["cross"], "dwell": inputs()["items"]}}, "must be indices"),
        ({"ages": None}, "ages and age_boundaries go together"),
        ({"valid": np.ones((USERS, LENGTH), bool)}, "lengths or valid"),
    ],
)
def test_a_wrong_tensor_is_one_sentence(layer, changes, message):
    with pytest.raises(ValueError, match=message):
        call(layer, **changes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cross_dims": {AGE: 3}}, "the layer's own feature"),
        ({"cross_rows": {"dwell": 3}}, "has no width"),
        ({"age_boundaries": [5, 5]}, "must rise"),
    ],
)
def test_a_wrong_setting_is_one_sentence(settings, message):
    with pytest.raises(ValueError, match=message):
        TwinAttention(**settings)
