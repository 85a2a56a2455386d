"""Mixed precision: what bfloat16 rounds, and what it must leave alone."""

import numpy as np

from tests.twin_tf.toy import make_batch, make_model
from twin_tf.core.keras_api import tf
from twin_tf.layers.esu import TargetAttention
from twin_tf.layers.relevance import Keys, Relevance

STEP = 2.0**-8
"""Largest relative error of one rounding to bfloat16. Of a product's result it is twice that: on CPUs without such
products of their own, TensorFlow cuts the result instead of rounding it."""


def rounded(array):
    return tf.cast(tf.cast(array, tf.bfloat16), tf.float32).numpy()


def test_projections_are_products_of_rounded_operands():
    relevance = Relevance(2, 4, [6], {}, "independent", bias=False, seed=1, precision="bfloat16")
    items = np.random.default_rng(1).normal(size=(50, 6)).astype(np.float32)
    wanted = rounded(items) @ rounded(relevance.item_kernel)
    found = relevance.project_items(tf.constant(items)).numpy()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, rounded(found))
    np.testing.assert_allclose(found, wanted, rtol=2 * STEP, atol=1e-5)
    assert (found != items @ relevance.item_kernel.numpy()).any()


def test_a_small_bias_is_not_lost_beside_a_large_similarity():
    relevance = Relevance(1, 1, [1], {"page": 1}, "tied", bias=True, seed=1, precision="bfloat16")
    bias = tf.constant([[[0.011], [0.012]]])
    similarity = relevance.similarity(tf.ones([1, 1, 1]), Keys(tf.fill([1, 1, 2, 1], 8.0), bias))
    np.testing.assert_allclose(similarity.numpy().ravel(), [8.011, 8.012], atol=1e-6)


def test_pooled_values_come_from_unrounded_weights_within_one_rounding_of_each_operand():
    attention = TargetAttention(1, 4, 4, {}, seed=1, precision="bfloat16")
    weights = tf.fill([1, 1, 1, 100], 0.01)
    values = np.random.default_rng(2).normal(size=(1, 100, 4)).astype(np.float32)
    pooled = attention.pool(weights, tf.range(100)[None, None], tf.constant(values))
    assert pooled.dtype == tf.float32
    np.testing.assert_allclose(pooled.numpy().ravel(), values.mean(axis=1).ravel(), atol=3 * STEP)


def test_the_network_in_bfloat16_is_the_network_in_float32_but_for_rounding():
    """Same weights; all retrieved behaviours are found, so that no choice between two near ones hangs on a rounding."""
    exact, mixed = (make_model(top_k=50, precision=precision) for precision in ("float32", "bfloat16"))
    for theirs, mine in zip(mixed.variables, exact.variables, strict=True):
        theirs.assign(mine)
    batch = make_batch(np.random.default_rng(3), [40, 20, 1, 0])
    wanted, found = exact.score(batch), mixed.score(batch)
    assert found.logit.dtype == found.long_term.output.dtype == found.long_term.relevance.dtype == tf.float32
    valid = np.broadcast_to(wanted.long_term.retrieved.valid[:, :, None], wanted.long_term.relevance.shape)
    size = np.abs(wanted.long_term.relevance.numpy()[valid]).max()
    assert size > 1
    difference = np.abs(_by_place(found, 40) - _by_place(wanted, 40))
    assert 0 < difference.max() < 4 * STEP * size
    assert 0 < np.abs(found.logit.numpy() - wanted.logit.numpy()).max() < 0.1
    np.testing.assert_array_equal(found.long_term.output[3], np.zeros_like(found.long_term.output[3]))


def _by_place(scores, length):
    """Relevance by place in the history, (B, C, heads, length); 0 where a behaviour is no retrieved behaviour."""
    relevance, retrieved = scores.long_term.relevance.numpy(), scores.long_term.retrieved
    placed = np.zeros((*relevance.shape[:3], length), np.float32)
    for user, target, rank in np.argwhere(retrieved.valid.numpy()):
        placed[user, target, :, retrieved.position[user, target, rank]] = relevance[user, target, :, rank]
    return placed
