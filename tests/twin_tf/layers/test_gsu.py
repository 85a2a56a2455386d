"""The merge of heads, the union of retrieved behaviours and the share found, against loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import attention as reference
from tests.twin_tf.toy import make_batch, make_model
from twin_tf.core.keras_api import tf
from twin_tf.layers import gsu
from twin_tf.layers.gsu import BLOCK, Retrieved, merge_heads, share_found, top_columns, union_of_retrieved
from twin_tf.layers.masking import MASKED_SCORE, masked_attention

ANY = [None] * 4
MERGE = tf.function(merge_heads, input_signature=[tf.TensorSpec(ANY), tf.TensorSpec([], tf.int32)])


def check_merge(scores, visible, count):
    """`scores` (heads, B, C, L) and `visible` (B, C, L) run from the oldest to the newest, columns the other way."""
    length = scores.shape[3]
    masked = np.where(visible, scores, np.float32(MASKED_SCORE)).astype(np.float32)
    merged = MERGE(masked[..., ::-1], count)
    assert merged.position.shape[2] == min(count, length)
    for user, target in np.ndindex(scores.shape[1:3]):
        wanted = reference.merge_heads(scores[:, user, target], visible[user, target], count)
        valid = merged.valid[user, target].numpy()
        assert (length - 1 - merged.position[user, target].numpy()[valid]).tolist() == wanted
        assert valid.tolist() == [place < len(wanted) for place in range(len(valid))]


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
    check_merge(scores, generator.random((2, 3, length)) < generator.random(), count)


@pytest.mark.parametrize("agreeing", [1, 2, 3, 4])
def test_heads_that_agree_are_followed_further_down(agreeing, monkeypatch):
    """With all four alike the first look at 40 of each list finds 40 of 100; the row beside needs no second look."""
    generator = np.random.default_rng(agreeing)
    scores = generator.normal(size=(4, 1, 2, 300)).astype(np.float32)
    scores[:agreeing, 0, 0] = scores[0, 0, 0]
    looks = []
    walk = gsu._round_robin_merge
    monkeypatch.setattr(gsu, "_round_robin_merge", lambda s, *rest: looks.append(s.shape[1]) or walk(s, *rest))
    merged = merge_heads(tf.constant(scores), 100)
    assert looks == [2, {1: 0, 2: 0, 3: 1, 4: 1}[agreeing]]
    for target in range(2):
        oldest_first = scores[:, 0, target, ::-1]
        wanted = reference.merge_heads(oldest_first, np.ones(300, bool), 100)
        assert (299 - merged.position[0, target].numpy()).tolist() == wanted
        assert merged.valid[0, target].numpy().all()


@pytest.mark.parametrize("seen", [0, 1, 39, 40, 41, 99, 100, 101])
def test_agreeing_heads_with_few_visible_behaviours_give_all_of_them(seen):
    scores = np.tile(np.random.default_rng(seen).normal(size=(1, 1, 1, 120)), (4, 1, 1, 1)).astype(np.float32)
    visible = np.zeros((1, 1, 120), bool)
    visible[..., 7 : 7 + seen] = True
    check_merge(scores, visible, 100)


def test_of_equal_scores_the_newest_win():
    check_merge(np.zeros((2, 1, 1, 50), np.float32), np.ones((1, 1, 50), bool), 10)
    merged = merge_heads(tf.zeros([2, 1, 1, 50]), 10)
    assert merged.position[0, 0].numpy().tolist() == list(range(10))


def test_the_walk_takes_the_heads_in_turn():
    """By hand: head 0 ranks columns 3, 1, 0, 2; head 1 ranks 3, 2, 1, 0."""
    scores = tf.constant([[2.0, 3.0, 1.0, 4.0], [1.0, 2.0, 3.0, 4.0]])[:, None, None, :]
    assert merge_heads(scores, 3).position[0, 0].numpy().tolist() == [3, 1, 2]
    assert merge_heads(scores, 9).position[0, 0].numpy().tolist() == [3, 1, 2, 0]


TOP = tf.function(top_columns, input_signature=[tf.TensorSpec([None] * 3), tf.TensorSpec([], tf.int32)])


@settings(max_examples=80, deadline=None)
@given(
    depth=st.integers(1, 9),
    blocks=st.integers(1, 60),
    rest=st.sampled_from([0, 0, 0, 5]),
    steps=st.sampled_from([1, 2, 20, 10**6]),
    masked=st.sampled_from([0.0, 0.5, 0.99, 1.0]),
    seed=st.integers(0, 10**6),
)
def test_the_top_of_a_row_is_the_librarys_to_the_last_tie(depth, blocks, rest, steps, masked, seed):
    """With few `steps` nearly all scores tie; the library's order among them is by column."""
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, steps, (2, 3, blocks * BLOCK + rest)).astype(np.float32)
    scores[generator.random(scores.shape) < masked] = MASKED_SCORE
    wanted, found = tf.math.top_k(scores, depth), TOP(scores, depth)
    np.testing.assert_array_equal(found[0], wanted.values)
    np.testing.assert_array_equal(found[1], wanted.indices)


retrieved_sets = st.integers(1, 24).flatmap(
    lambda width: st.tuples(
        st.just(width),
        st.lists(
            st.lists(st.lists(st.integers(-1, width - 1), min_size=4, max_size=4), min_size=2, max_size=2),
            min_size=1,
            max_size=3,
        ),
    )
)


@settings(max_examples=60, deadline=None)
@given(retrieved_sets)
def test_the_union_is_every_retrieved_of_any_target_once(drawn):
    width, columns = drawn
    columns = np.array(columns)
    retrieved = Retrieved(tf.constant(np.maximum(columns, 0), tf.int32), tf.constant(columns >= 0))
    union = union_of_retrieved(retrieved, width)
    wanted = [sorted({int(c) for c in user.ravel() if c >= 0}) for user in columns]
    spare = max([1, *map(len, wanted)])
    assert union.column.shape[1] == spare + 1
    for user, those in enumerate(wanted):
        filled = those + (those or [0])[:1] * (spare + 1 - len(those))
        assert union.column[user].numpy().tolist() == filled
    for (user, target, place), column in np.ndenumerate(columns):
        inside = int(union.place[user, target, place])
        assert inside == (wanted[user].index(column) if column >= 0 else spare)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), users=st.integers(1, 3), targets=st.integers(1, 3), shared=st.booleans())
def test_the_share_found_is_counted_over_real_targets(data, users, targets, shared):
    length = 12
    row = st.lists(st.integers(0, length - 1), max_size=5, unique=True)

    def draw(columns):
        return [[data.draw(row) for _ in range(columns)] for _ in range(users)]

    def retrieved(rows):
        position = [[r + [0] * (5 - len(r)) for r in user] for user in rows]
        valid = [[[i < len(r) for i in range(5)] for r in user] for user in rows]
        return Retrieved(tf.constant(position, tf.int32), tf.constant(valid))

    found, true = draw(1 if shared else targets), draw(targets)
    count = [data.draw(st.integers(0, targets)) for _ in range(users)]
    hits = wanted = 0
    for user in range(users):
        for target in range(count[user]):
            hits += len(set(true[user][target]) & set(found[user][0 if shared else target]))
            wanted += len(true[user][target])
    share = float(share_found(retrieved(found), retrieved(true), length, tf.constant(count)))
    assert np.isnan(share) if not wanted else share == pytest.approx(hits / wanted)


def test_attention_to_nothing_is_zero_and_so_are_its_gradients():
    scores, valid = tf.Variable([[1.0, 2.0], [3.0, 4.0]]), tf.constant([[True, False], [False, False]])
    with tf.GradientTape() as tape:
        found = masked_attention(scores, valid)
        sums = tf.reduce_sum(found.weights) + tf.reduce_sum(found.total) + tf.reduce_sum(found.largest)
    assert found.weights.numpy().tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert found.total.numpy().tolist() == [1.0, 0.0]
    assert found.largest.numpy().tolist() == [1.0, 0.0]
    assert tape.gradient(sums, scores).numpy().tolist() == [[2.0, 0.0], [0.0, 0.0]]


def test_only_the_retrieved_contribute_to_the_output():
    model = make_model(short_term_length=0)
    batch = make_batch(np.random.default_rng(6), [40, 25], targets_per_user=2)
    found = model.score(batch).long_term
    cross, items, queries = model._looked_up(batch, None, True)
    again = model.long_term(items, queries, batch.history, cross, batch.targets, found.retrieved)
    np.testing.assert_array_equal(again.output, found.output)
    item, play_time = batch.history.item.numpy(), batch.history.cross["play_time"].numpy()
    for user in range(2):
        chosen = set(found.retrieved.position[user].numpy().ravel().tolist())
        for place in set(range(40)) - chosen:
            item[user, place], play_time[user, place] = 2 + place % 7, 2
    history = batch.history._replace(item=tf.constant(item), cross={"play_time": tf.constant(play_time)})
    cross, items, queries = model._looked_up(batch._replace(history=history), None, True)
    again = model.long_term(items, queries, history, cross, batch.targets, found.retrieved)
    np.testing.assert_array_equal(again.output, found.output)
    np.testing.assert_array_equal(again.relevance_statistics, found.relevance_statistics)


def test_behaviours_that_lose_the_search_may_be_anything():
    """As above through the search: what nobody chose is exchanged for what is even less relevant."""
    model = make_model()
    batch = make_batch(np.random.default_rng(6), [40], targets_per_user=1)
    found = model.score(batch)
    chosen = {*found.long_term.retrieved.position[0, 0].numpy(), *range(35, 40)}
    table = model.long_term.relevance.bias_table("play_time", model.cross_embedding.tables["play_time"]).numpy()
    weakest = int(np.argmin(table.max(axis=1)))
    cross = batch.history.cross["play_time"].numpy()
    for position in set(range(40)) - chosen:
        cross[0, position] = weakest
    changed = batch._replace(history=batch.history._replace(cross={"play_time": tf.constant(cross)}))
    again = model.score(changed)
    assert again.long_term.retrieved.position.numpy().tolist() == found.long_term.retrieved.position.numpy().tolist()
    np.testing.assert_array_equal(again.logit, found.logit)


def test_only_retrieved_and_targets_learn():
    """No row of an item that is neither reaches the gradient of the item table."""
    model = make_model(short_term_length=0)
    batch = make_batch(np.random.default_rng(8), [40], targets_per_user=1)
    with tf.GradientTape() as tape:
        scores = model.score(batch)
        total = tf.reduce_sum(scores.logit)
    gradient = tape.gradient(total, model.item_embedding.tables[0])
    places = scores.long_term.retrieved.position[0, 0].numpy()
    rows = {*batch.history.item.numpy()[0, places].tolist(), int(batch.targets.item[0, 0])}
    assert set(gradient.indices.numpy().tolist()) == rows
    assert rows < set(batch.history.item.numpy().ravel().tolist()) | rows


def test_all_heads_share_one_set_of_the_wanted_size():
    model = make_model(heads=4, top_k=100, history_length=300)
    batch = make_batch(np.random.default_rng(9), [300, 150], targets_per_user=2, columns=300)
    found = model.score(batch).long_term
    assert found.retrieved.position.shape == (2, 2, 100)
    assert found.relevance.shape == (2, 2, 4, 100)
    for user, target in np.ndindex(2, 2):
        valid = found.retrieved.valid[user, target].numpy()
        end = int(batch.targets.end[user, target])
        assert valid.sum() == min(100, end)
        assert len(set(found.retrieved.position[user, target].numpy()[valid])) == valid.sum()
