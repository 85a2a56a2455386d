"""Items with several values of a feature: the mean of their embeddings, against NumPy."""

import numpy as np

from tests.reference.pooling import mean_of_values
from twin_tf.core.keras_api import tf
from twin_tf.features.schema import Encoding, Feature, MultiValued
from twin_tf.layers.embeddings import ItemEmbedding, pooled

FEATURES = (
    Feature("video", "inherent", encoding=Encoding("identity", size=30), dim=6),
    Feature("topics", "inherent", encoding=Encoding("vocabulary"), dim=5, multi_valued=MultiValued(max_values=4)),
    Feature("author", "inherent", encoding=Encoding("identity", size=9), dim=4),
    Feature("tags", "inherent", encoding=Encoding("vocabulary"), dim=3, multi_valued=MultiValued(",", 1)),
)
CARDINALITIES = {"video": 32, "topics": 12, "author": 11, "tags": 7}


def layer_and_features():
    generator = np.random.default_rng(5)
    rows = 32
    topics = generator.integers(1, 12, (rows, 4)) * (np.arange(4) < generator.integers(0, 5, rows)[:, None])
    columns = [
        np.arange(rows)[:, None],
        topics,
        generator.integers(1, 11, (rows, 1)),
        generator.integers(0, 7, (rows, 1)),
    ]
    features = np.concatenate(columns, axis=1).astype(np.int32)  # fmt: skip
    features[0], features[1] = 0, [1, 1, 0, 0, 0, 1, 1]
    features[7, 1:5] = [3, 0, 99, 0]  # a gap, and a value out of range
    assert (topics.sum(axis=1) == 0).any()
    return ItemEmbedding(FEATURES, CARDINALITIES, features, norm=2.0), features


def test_an_item_is_its_features_side_by_side_and_the_mean_of_several_values():
    layer, features = layer_and_features()
    rows = np.array([[2, 3, 7], [31, 1, 40]])  # 40 is no item: unknown
    found = layer(tf.constant(rows, tf.int32)).numpy()
    assert found.shape == (2, 3, layer.width) == (2, 3, 18)
    tables = [table.numpy() for table in layer.tables]
    for place, row in np.ndenumerate(np.where(rows < 32, rows, 1)):
        index = features[row]
        expected = [
            tables[0][index[0]], mean_of_values(tables[1], index[1:5]), tables[2][index[5]],
            mean_of_values(tables[3], index[6:]),
        ]  # fmt: skip
        np.testing.assert_allclose(found[place], np.concatenate(expected), atol=1e-6)


def test_pooling_is_the_mean_of_the_real_values():
    generator = np.random.default_rng(6)
    table = tf.constant(generator.normal(size=(9, 3)), tf.float32)
    index = generator.integers(0, 11, (40, 5)) * (generator.random((40, 5)) < 0.6)
    found = pooled(table, tf.constant(index, tf.int32)).numpy()
    expected = [mean_of_values(table.numpy(), row) for row in index]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_array_equal(pooled(table, tf.zeros([1, 5], tf.int32))[0], table[1])


def test_the_row_of_padding_learns_nothing():
    layer, features = layer_and_features()
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer(tf.range(2, 32)))
    gradient = tf.convert_to_tensor(tape.gradient(total, layer.tables[1])).numpy()
    assert not gradient[0].any()
    wanted = np.zeros((12, 5))
    for row in features[2:]:
        values = [index if index < 12 else 1 for index in row[1:5] if index] or [1]
        for value in values:
            wanted[value] += 1 / len(values)
    np.testing.assert_allclose(gradient, wanted, atol=1e-5)
