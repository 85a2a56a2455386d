"""Padding, batch size and the form of the graph never change a score."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.twin_tf.toy import ITEMS, make_batch, make_model, pad, take_users
from twin_tf.keras_api import tf

MODELS = {search: make_model(search=search) for search in ("consistent", "recent")}
SPEC = tf.nest.map_structure(
    lambda tensor: tf.TensorSpec([None] * tensor.shape.rank, tensor.dtype), make_batch(np.random.default_rng(0), [3])
)
GRAPHS = {search: tf.function(model, input_signature=[SPEC]) for search, model in MODELS.items()}
"""As trained: one trace for every width."""


@settings(max_examples=40, deadline=None)
@given(
    search=st.sampled_from(sorted(MODELS)),
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=4),
    behaviours=st.integers(0, 40),
    targets=st.integers(0, 5),
    garbage=st.sampled_from([0, 1, 7, 39, 10**6]),
    seed=st.integers(0, 10**6),
)
def test_padding_never_changes_the_score(search, lengths, behaviours, targets, garbage, seed):
    graph = GRAPHS[search]
    batch = make_batch(np.random.default_rng(seed), lengths)
    scores = graph(batch).numpy()
    padded = graph(pad(batch, behaviours, targets, garbage)).numpy()
    np.testing.assert_allclose(padded[:, :3], scores, atol=2e-6)


@settings(max_examples=25, deadline=None)
@given(
    search=st.sampled_from(sorted(MODELS)),
    lengths=st.lists(st.integers(0, 60), min_size=2, max_size=5),
    seed=st.integers(0, 10**6),
)
def test_a_user_scores_the_same_alone_and_in_any_batch(search, lengths, seed):
    graph = GRAPHS[search]
    batch = make_batch(np.random.default_rng(seed), lengths)
    together = graph(batch).numpy()
    for user in range(len(lengths)):
        np.testing.assert_allclose(graph(take_users(batch, [user])).numpy()[0], together[user], atol=2e-6)


@settings(max_examples=25, deadline=None)
@given(
    search=st.sampled_from(sorted(MODELS)),
    lengths=st.lists(st.integers(0, 80), min_size=1, max_size=4),
    targets=st.integers(1, 4),
    seed=st.integers(0, 10**6),
)
def test_the_projection_table_gives_the_live_scores(search, lengths, targets, seed):
    """Serving (table, V of the finalists, one moment a user) equals training (live, V of all, a moment each)."""
    model = MODELS[search]
    table = model.project_items(tf.range(ITEMS + 2))
    batch = make_batch(np.random.default_rng(seed), lengths, targets, shared_moment=True)
    served = model.score(batch, table).logit.numpy()
    shown = batch.targets
    spread = shown._replace(
        time=tf.repeat(shown.time, targets, axis=1),
        end=tf.repeat(shown.end, targets, axis=1),
        context={name: tf.repeat(value, targets, axis=1) for name, value in shown.context.items()},
    )
    np.testing.assert_allclose(served, GRAPHS[search](batch._replace(targets=spread)).numpy(), atol=3e-6)
    np.testing.assert_allclose(served, model(batch).numpy(), atol=3e-6)


def test_what_happens_after_the_target_never_changes_its_score():
    model = MODELS["consistent"]
    batch = make_batch(np.random.default_rng(1), [40, 40])
    scores = model(batch).numpy()
    cut = int(batch.targets.end[0, 1])
    items = batch.history.item.numpy()
    items[0, cut:] = (items[0, cut:] + 5) % ITEMS + 1
    changed = model(batch._replace(history=batch.history._replace(item=tf.constant(items)))).numpy()
    assert changed[0, 1] == scores[0, 1]


def test_ids_out_of_range_read_the_unknown_row():
    model = MODELS["consistent"]
    batch = make_batch(np.random.default_rng(2), [10])
    items = batch.history.item.numpy()
    scores = []
    for bad in (-1, ITEMS + 2, 2**31 - 1, 1):
        items[0, 3] = bad
        scores.append(model(batch._replace(history=batch.history._replace(item=tf.constant(items)))).numpy())
    for other in scores[1:]:
        np.testing.assert_array_equal(other, scores[0])
