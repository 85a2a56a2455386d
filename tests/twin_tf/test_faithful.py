"""The layers against plain NumPy loops of the papers' equations, and the faults seen in public TWIN code."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import attention as reference
from tests.twin_tf.toy import CONFIG, SCHEMA, make_batch, make_model
from twin_tf.keras_api import tf
from twin_tf.layers.gsu import merge_heads
from twin_tf.layers.items import Items
from twin_tf.layers.masking import MASKED_SCORE, masked_logsumexp, masked_softmax


def vectors_of(model, batch, user, target):
    """K_h, and E_j of every cross feature of one user's behaviours as one target sees them."""
    items = model.item_embedding(batch.history.item[user]).numpy()
    cross = []
    for feature in SCHEMA.cross:
        table = model.cross_embedding.tables[feature.name].numpy()
        times = batch.history.time[user].numpy()
        if feature.name == "play_time":
            index = np.clip(batch.history.cross["play_time"][user].numpy(), 0, 6)
        elif feature.name == "age":
            age = batch.targets.time[user, target].numpy() - times
            index = 2 + (age[:, None] >= np.array(feature.encoding.boundaries)[None]).sum(axis=1)
        else:
            index = 2 + np.array([(time // 86_400 + 3) % 7 for time in times])
        cross.append(table[index])
    return items, cross


def reference_block(model, block, batch, user, target, count):
    items, cross = vectors_of(model, batch, user, target)
    relevance = block.relevance
    query = model.item_embedding(batch.targets.item[user, target]).numpy()
    alpha = reference.relevance(
        query,
        items,
        relevance.query_kernel.numpy(),
        relevance.item_kernel.numpy(),
        cross if relevance.bias else [],
        [relevance.cross_kernels[f.name].numpy() for f in SCHEMA.cross] if relevance.bias else [],
        relevance.beta.numpy() if relevance.bias else [],
        relevance.heads,
    )
    end = int(batch.targets.end[user, target])
    visible = [end - CONFIG.history_length <= i < end for i in range(len(items))]
    if count is not None:
        finalists = reference.merge_heads(alpha, visible, count)
    else:
        finalists = list(range(end - 1, max(-1, end - 1 - CONFIG.short_term_length), -1))
    attention = block.attention
    offsets = attention.cross_offsets
    kernels = [attention.cross_kernel.numpy()[offsets[f.name] : offsets[f.name] + f.dim] for f in SCHEMA.cross]
    kernel = np.concatenate([attention.item_kernel.numpy(), *kernels])
    full = np.concatenate([items, *cross], axis=1)
    return finalists, reference.target_attention(alpha, finalists, full, kernel, attention.output_kernel.numpy())


def run_block(model, block, batch):
    items = Items(model.item_embedding, model.item_embedding, batch.history.item)
    cross = model.cross_embedding.compact(model.cross_embedding.behaviour_indices(batch.history))
    return block(items, model.item_embedding(batch.targets.item), batch.history, cross, batch.targets)


@pytest.mark.parametrize("start", ["per_feature", "equal", "unrelated"])
@pytest.mark.parametrize("bias", [True, False])
def test_long_term_block_agrees_with_the_equations(start, bias):
    model = make_model(projection_start=start, bias=bias)
    batch = make_batch(np.random.default_rng(3), [30, 0, 1, 9, 60])
    found = run_block(model, model.long_term, batch)
    for user in range(5):
        for target in range(3):
            finalists, output = reference_block(model, model.long_term, batch, user, target, CONFIG.retrieved)
            valid = found.finalists.valid[user, target].numpy()
            assert found.finalists.position[user, target].numpy()[valid].tolist() == finalists
            np.testing.assert_allclose(found.output[user, target], output, atol=1e-5)


def test_short_term_block_attends_to_exactly_the_latest_behaviours():
    model = make_model()
    batch = make_batch(np.random.default_rng(4), [30, 0, 3, 5])
    found = run_block(model, model.short_term, batch)
    for user in range(4):
        for target in range(3):
            finalists, output = reference_block(model, model.short_term, batch, user, target, None)
            valid = found.finalists.valid[user, target].numpy()
            assert found.finalists.position[user, target].numpy()[valid].tolist() == finalists
            np.testing.assert_allclose(found.output[user, target], output, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    heads=st.integers(1, 4),
    length=st.integers(1, 25),
    count=st.integers(1, 30),
    seed=st.integers(0, 10**6),
    ties=st.booleans(),
)
def test_merge_is_the_walk_over_the_heads_lists(heads, length, count, seed, ties):
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=(heads, 2, 3, length)).astype(np.float32)
    if ties:
        scores = np.round(scores)
    visible = generator.random((2, 3, length)) < generator.random()
    masked = np.where(visible, scores, np.float32(MASKED_SCORE))
    merged = merge_heads(tf.constant(masked[..., ::-1]), count)  # columns run from the newest to the oldest
    for user in range(2):
        for target in range(3):
            wanted = reference.merge_heads(scores[:, user, target], visible[user, target], count)
            valid = merged.valid[user, target].numpy()
            assert (length - 1 - merged.position[user, target].numpy()[valid]).tolist() == wanted


def test_the_bias_moves_the_ranking():
    batch = make_batch(np.random.default_rng(5), [40])
    model = make_model()
    with_bias = run_block(model, model.long_term, batch).finalists.position.numpy()
    model.long_term.relevance.beta.assign(tf.zeros_like(model.long_term.relevance.beta))
    without = run_block(model, model.long_term, batch).finalists.position.numpy()
    assert set(with_bias[0, 0]) != set(without[0, 0])


def test_only_the_finalists_contribute_to_the_output():
    model = make_model()
    batch = make_batch(np.random.default_rng(6), [40], targets_per_user=1)
    found = model.score(batch)
    chosen = {*found.long_term.finalists.position[0, 0].numpy(), *range(35, 40)}
    # Exchange the stored cross value of a behaviour nobody chose for one with less relevance: nothing may change.
    table = model.long_term.relevance.bias_table("play_time", model.cross_embedding.tables["play_time"]).numpy()
    weakest = int(np.argmin(table.max(axis=1)))
    cross = batch.history.cross["play_time"].numpy()
    for position in set(range(40)) - chosen:
        cross[0, position] = weakest
    changed = batch._replace(history=batch.history._replace(cross={"play_time": tf.constant(cross)}))
    again = model.score(changed)
    assert again.long_term.finalists.position.numpy().tolist() == found.long_term.finalists.position.numpy().tolist()
    np.testing.assert_array_equal(again.logit, found.logit)


def test_a_user_without_history_gets_an_exact_zero_vector():
    model = make_model()
    batch = make_batch(np.random.default_rng(7), [0, 12])
    for block in (model.long_term, model.short_term):
        found = run_block(model, block, batch)
        assert not found.output[0].numpy().any()
        assert not found.evidence[0].numpy().any()
        assert not found.finalists.valid[0].numpy().any()
        assert np.isfinite(found.output.numpy()).all()


@pytest.mark.parametrize("length", [1, 7, 8, 9, 50, 51])
def test_around_the_number_of_finalists_and_the_window_nothing_is_lost(length):
    model = make_model()
    batch = make_batch(np.random.default_rng(8), [length], targets_per_user=1)
    found = model.score(batch).long_term.finalists
    positions = found.position[0, 0].numpy()[found.valid[0, 0].numpy()]
    assert len(set(positions)) == len(positions) == min(length, CONFIG.retrieved)
    assert positions.min() >= max(0, length - CONFIG.history_length)


def test_the_search_runs_without_gradient_and_the_finalists_relevance_with_it():
    model = make_model(short_term_length=0)
    batch = make_batch(np.random.default_rng(9), [40])
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch)
    gradients = tape.gradient(loss, model.trainable_variables)
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.name
        assert np.isfinite(tf.convert_to_tensor(gradient).numpy()).all(), variable.name
    moving = [tf.norm(tf.convert_to_tensor(g)).numpy() for g in gradients]
    assert min(moving) > 0


def test_masked_softmax_and_logsumexp_of_nothing_are_zero():
    scores, valid = tf.constant([[1.0, 2.0], [3.0, 4.0]]), tf.constant([[True, False], [False, False]])
    assert masked_softmax(scores, valid).numpy().tolist() == [[1.0, 0.0], [0.0, 0.0]]
    total, largest = masked_logsumexp(scores, valid)
    assert total.numpy().tolist() == [1.0, 0.0]
    assert largest.numpy().tolist() == [1.0, 0.0]


def test_fresh_gsu_finds_all_of_the_esus_true_finalists():
    """Consistency: ranking every behaviour by the ESU's own alpha, recomputed apart, gives the GSU's set."""
    model = make_model()
    batch = make_batch(np.random.default_rng(10), [50, 33])
    found = model.score(batch).long_term.finalists
    hits = wanted = 0
    for user in range(2):
        for target in range(3):
            true, _ = reference_block(model, model.long_term, batch, user, target, CONFIG.retrieved)
            got = found.position[user, target].numpy()[found.valid[user, target].numpy()]
            hits, wanted = hits + len(set(true) & set(got)), wanted + len(true)
    assert (hits, wanted) == (wanted, wanted)
