"""Padding, batch size and the form of the graph never change a score."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.twin_tf.searching import searching
from tests.twin_tf.toy import DAY, ITEMS, NOW, make_batch, make_model, pad, take_users
from twin_tf.core.keras_api import tf
from twin_tf.search import STRATEGIES

MODELS = {search: searching(search) for search in STRATEGIES}
SPEC = tf.nest.map_structure(
    lambda tensor: tf.TensorSpec([None] * tensor.shape.rank, tensor.dtype), make_batch(np.random.default_rng(0), [3])
)
GRAPHS = {search: tf.function(model, input_signature=[SPEC]) for search, model in MODELS.items()}
"""As trained: one trace for every width."""


@pytest.mark.parametrize("search", sorted(MODELS))
@settings(max_examples=15, deadline=None)
@given(
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


@pytest.mark.parametrize("search", sorted(MODELS))
@settings(max_examples=10, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 60), min_size=2, max_size=5),
    seed=st.integers(0, 10**6),
)
def test_a_user_scores_the_same_alone_and_in_any_batch(search, lengths, seed):
    graph = GRAPHS[search]
    batch = make_batch(np.random.default_rng(seed), lengths)
    together = graph(batch).numpy()
    for user in range(len(lengths)):
        np.testing.assert_allclose(graph(take_users(batch, [user])).numpy()[0], together[user], atol=2e-6)


@pytest.mark.parametrize("search", sorted(MODELS))
@settings(max_examples=10, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 80), min_size=1, max_size=4),
    targets=st.integers(1, 4),
    seed=st.integers(0, 10**6),
)
def test_the_projection_table_gives_the_live_scores(search, lengths, targets, seed):
    """Serving (table, V of the retrieved, one request time a user) equals training (live, V of all, a moment each)."""
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
    model = MODELS["twin"]
    batch = make_batch(np.random.default_rng(1), [40, 40])
    scores = model(batch).numpy()
    cut = int(batch.targets.end[0, 1])
    items = batch.history.item.numpy()
    items[0, cut:] = (items[0, cut:] + 5) % ITEMS + 1
    changed = model(batch._replace(history=batch.history._replace(item=tf.constant(items)))).numpy()
    assert changed[0, 1] == scores[0, 1]


def test_ids_out_of_range_read_the_unknown_row():
    model = MODELS["twin"]
    batch = make_batch(np.random.default_rng(2), [10])
    items = batch.history.item.numpy()
    scores = []
    for bad in (-1, ITEMS + 2, 2**31 - 1, 1):
        items[0, 3] = bad
        scores.append(model(batch._replace(history=batch.history._replace(item=tf.constant(items)))).numpy())
    for other in scores[1:]:
        np.testing.assert_array_equal(other, scores[0])


@pytest.mark.parametrize("options", [{}, {"consistency": "auxiliary", "history_length": 10}, {"relevance": "raw"}])
@pytest.mark.parametrize("garbage", [0, -5, 10**6])
def test_padding_targets_may_end_anywhere_and_teach_nothing(options, garbage):
    """Also with columns for a part of the history alone: a window of 10 of 50 behaviours."""
    model = make_model(**options)
    batch = make_batch(np.random.default_rng(4), [50, 50], 3)
    batch = batch._replace(targets=batch.targets._replace(end=tf.constant([[50] * 3] * 2), count=tf.constant([2, 2])))

    def learn(end):
        shown = batch.targets._replace(end=tf.constant([[50, 50, end]] * 2))
        with tf.GradientTape() as tape:
            loss = model.compute_loss(batch._replace(targets=shown))
        return [loss, *tape.gradient(loss, model.trainable_variables)]

    for found, wanted in zip(learn(garbage), learn(50), strict=True):
        np.testing.assert_allclose(tf.convert_to_tensor(found), tf.convert_to_tensor(wanted), atol=1e-6)


def test_ends_behind_the_history_and_before_it_are_its_ends():
    model = MODELS["twin"]
    batch = make_batch(np.random.default_rng(5), [30, 0, 9])
    for end, wanted in ((1000, batch.history.length), (-7, tf.zeros(3, tf.int32))):
        scores = [
            model(batch._replace(targets=batch.targets._replace(end=tf.broadcast_to(e, [3, 3])))).numpy()
            for e in (end, wanted[:, None])
        ]
        np.testing.assert_array_equal(*scores)


@pytest.mark.parametrize("search", sorted(MODELS))
@pytest.mark.parametrize("shared", ["time", "end", "context"])
def test_what_the_targets_share_may_be_given_once(search, shared):
    batch = make_batch(np.random.default_rng(6), [30, 0, 9], 3)
    value = getattr(batch.targets, shared)
    once = {name: v[:, :1] for name, v in value.items()} if shared == "context" else value[:, :1]
    each = tf.nest.map_structure(lambda v: tf.repeat(v, 3, axis=1), once)
    scores = [MODELS[search](batch._replace(targets=batch.targets._replace(**{shared: v}))) for v in (once, each)]
    np.testing.assert_allclose(*scores, atol=2e-6)


@pytest.mark.parametrize("search", sorted(MODELS))
def test_a_batch_may_hold_no_target(search):
    batch = make_batch(np.random.default_rng(7), [30, 0], 2)
    none = batch.targets._replace(count=tf.zeros(2, tf.int32))
    scores = MODELS[search](batch._replace(targets=none))
    assert scores.shape == (2, 2) and np.isfinite(scores).all()
    cut = {name: value[:, :0] for name, value in none._asdict().items() if name in ("item", "time", "end")}
    none = none._replace(**cut, context={name: value[:, :0] for name, value in none.context.items()})
    without = batch._replace(targets=none, label=batch.label[:, :0], weight=batch.weight[:, :0])
    assert MODELS[search](without).shape == (2, 0)
    with tf.GradientTape() as tape:
        loss = MODELS[search].compute_loss(without)
    assert float(loss) == 0
    for gradient in tape.gradient(loss, MODELS[search].trainable_variables):
        assert gradient is None or not tf.convert_to_tensor(gradient).numpy().any()


@pytest.mark.parametrize("timestamp", [0, -1, 2**62, -(2**62)])
def test_extreme_times_score_as_the_outermost_buckets(timestamp):
    """The age bucket is the first or the last; nothing overflows."""
    model = MODELS["twin"]
    batch = make_batch(np.random.default_rng(8), [30, 9], 1)

    def score(value):
        return model.score(
            batch._replace(targets=batch.targets._replace(time=tf.fill([2, 1], tf.cast(value, tf.int64))))
        )

    far = NOW + 10_000 * DAY if timestamp > NOW else NOW - 10_000 * DAY
    np.testing.assert_array_equal(score(timestamp).long_term.output, score(far).long_term.output)
    assert np.isfinite(score(timestamp).logit).all()


def test_users_without_history_teach_only_finite_numbers():
    model = MODELS["twin"]
    for lengths in ([0, 0], [0, 20]):
        batch = make_batch(np.random.default_rng(9), lengths, 2)
        with tf.GradientTape() as tape:
            loss = model.compute_loss(batch)
        for gradient in tape.gradient(loss, model.trainable_variables):
            assert np.isfinite(tf.convert_to_tensor(gradient)).all()
