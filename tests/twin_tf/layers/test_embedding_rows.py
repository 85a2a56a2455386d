"""Tables are read by the row: from shards or not, and their gradient holds the rows of the batch alone."""

import numpy as np
import pytest

from tests.twin_tf.toy import make_batch, make_model
from twin_tf.core.keras_api import tf
from twin_tf.layers import embeddings
from twin_tf.layers.embeddings import gather_rows, table_variables

VALUES = np.arange(26, dtype=np.float32).reshape(13, 2)
INDEX = [[0, 12, 5], [-1, 13, 5]]
READ = [[0, 12, 5], [1, 1, 5]]  # out of range is row 1, unknown


def sharded(values, shards):
    return tf.__internal__.distribute.ShardedVariable([tf.Variable(part) for part in np.array_split(values, shards)])


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("table", [VALUES, tf.constant(VALUES), tf.Variable(VALUES), sharded(VALUES, 3)])
def test_rows_come_from_wherever_they_lie(table, dtype):
    np.testing.assert_array_equal(gather_rows(table, tf.constant(INDEX, dtype)), VALUES[READ])


def test_the_number_of_rows_may_be_known_only_when_it_runs():
    read = tf.function(gather_rows, input_signature=[tf.TensorSpec([None, 2]), tf.TensorSpec([None, None], tf.int32)])
    np.testing.assert_array_equal(read(VALUES, INDEX), VALUES[READ])


@pytest.mark.parametrize("table", [tf.Variable(VALUES), sharded(VALUES, 3)])
def test_the_gradient_holds_the_rows_of_the_batch_alone(table):
    variables = table_variables(table)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(gather_rows(table, tf.constant(INDEX)) ** 2)
    gradients = tape.gradient(total, variables)
    dense, offset, touched = np.zeros_like(VALUES), 0, set()
    for gradient, variable in zip(gradients, variables, strict=True):
        assert isinstance(gradient, tf.IndexedSlices)
        np.add.at(dense, gradient.indices.numpy() + offset, gradient.values.numpy())
        touched |= set((gradient.indices.numpy() + offset).tolist())
        offset += variable.shape[0]
    assert touched == {0, 1, 5, 12}
    expected = np.zeros_like(VALUES)
    np.add.at(expected, np.array(READ), 2 * VALUES[READ])
    np.testing.assert_array_equal(dense, expected)


def behaviour_indices(model, batch):
    return model.cross_embedding.behaviour_indices(batch.history)


@pytest.fixture
def model():
    return make_model()


@pytest.fixture
def batch():
    return make_batch(np.random.default_rng(5), [7, 30, 0])


def test_large_cross_tables_shrink_to_the_rows_of_the_batch_and_nothing_else_changes(model, batch, monkeypatch):
    cross, relevance = model.cross_embedding, model.long_term.relevance
    indices = behaviour_indices(model, batch)
    monkeypatch.setattr(embeddings, "LARGEST_WHOLE_TABLE", 8)
    tables, places, _ = cross.compact(indices)
    assert tables.keys() == cross.tables.keys() and places.keys() == indices.keys()
    assert {name: table.shape[0] for name, table in tables.items()} == {"play_time": 7, "age": 6, "weekday": 7}
    assert tables["weekday"].shape[0] < cross.tables["weekday"].shape[0] == 9
    for name, index in indices.items():
        whole = tf.gather(relevance.bias_table(name, cross.tables[name]), index)
        np.testing.assert_allclose(tf.gather(relevance.bias_table(name, tables[name]), places[name]), whole, atol=1e-6)


@pytest.mark.parametrize(("largest", "sparse"), [(8, True), (9, False)])
def test_only_the_gradient_of_a_small_table_is_dense(model, batch, monkeypatch, largest, sparse):
    monkeypatch.setattr(embeddings, "LARGEST_WHOLE_TABLE", largest)
    cross, relevance = model.cross_embedding, model.long_term.relevance
    indices = behaviour_indices(model, batch)
    with tf.GradientTape() as tape:
        tables, places, _ = cross.compact(indices)
        total = tf.reduce_sum(tf.gather(relevance.bias_table("weekday", tables["weekday"]), places["weekday"]) ** 2)
    gradient = tape.gradient(total, cross.tables["weekday"])
    assert isinstance(gradient, tf.IndexedSlices) is sparse
    with tf.GradientTape() as tape:
        bias = relevance.bias_table("weekday", cross.tables["weekday"])
        total = tf.reduce_sum(tf.gather(bias, indices["weekday"]) ** 2)
    expected = tape.gradient(total, cross.tables["weekday"])
    np.testing.assert_allclose(tf.convert_to_tensor(gradient), expected, rtol=1e-5, atol=1e-6)
    if sparse:
        assert set(gradient.indices.numpy()) == set(indices["weekday"].numpy().ravel())


def test_a_step_has_no_gradient_of_a_whole_large_table(model, batch, monkeypatch):
    monkeypatch.setattr(embeddings, "LARGEST_WHOLE_TABLE", 0)
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch, training=True)
    whole = model.cross_embedding.tables["age"].ref()  # its rows are buckets: always few
    tables = [table for table in model.embedding_variables if table.ref() != whole]
    gradients = tape.gradient(loss, tables)
    assert len(tables) == 7 and all(isinstance(gradient, tf.IndexedSlices) for gradient in gradients)
