"""Numbers go to the retrieved behaviours' places and back, and so do gradients."""

import numpy as np
import pytest

from twin_tf.core.keras_api import tf
from twin_tf.layers.gather_scatter import gather_retrieved, scatter_weights

HEADS, USERS, TARGETS, WIDTH, RETRIEVED = 3, 2, 4, 9, 5


def places(targets):
    """Unique places per row; some retrieved behaviours missing, which lie at the last place."""
    generator = np.random.default_rng(5)
    place = np.array([[generator.permutation(WIDTH - 1)[:RETRIEVED] for _ in range(targets)] for _ in range(USERS)])
    place[0, 0, 2:] = WIDTH - 1
    return place.astype(np.int32)


@pytest.mark.parametrize("targets", [TARGETS, 1])
def test_each_direction_is_the_others_gradient(targets):
    place = places(targets)
    generator = np.random.default_rng(6)
    dense = tf.Variable(generator.normal(size=(HEADS, USERS, TARGETS, WIDTH)).astype(np.float32))
    missing = np.broadcast_to((place == WIDTH - 1)[:, :, None], (USERS, TARGETS, HEADS, RETRIEVED))
    values = tf.Variable(np.where(missing, 0, generator.normal(size=missing.shape)).astype(np.float32))

    with tf.GradientTape() as tape:
        picked = tf.where(missing, 0.0, gather_retrieved(dense, tf.constant(place)))
        total = tf.reduce_sum(picked * values)
    wanted_dense, wanted_picked = np.zeros(dense.shape, np.float32), np.zeros(values.shape, np.float32)
    for user, target, head, retrieved in np.argwhere(~missing):
        column = place[user, target if targets > 1 else 0, retrieved]
        wanted_picked[user, target, head, retrieved] = dense.numpy()[head, user, target, column]
        wanted_dense[head, user, target, column] = values.numpy()[user, target, head, retrieved]
    np.testing.assert_array_equal(picked, wanted_picked)
    np.testing.assert_array_equal(tape.gradient(total, dense), wanted_dense)

    with tf.GradientTape() as tape:
        written = scatter_weights(values, tf.constant(place), tf.constant(WIDTH))
        total = tf.reduce_sum(written * dense)
    np.testing.assert_array_equal(written, wanted_dense)
    np.testing.assert_array_equal(tf.where(missing, 0.0, tape.gradient(total, values)), wanted_picked)
