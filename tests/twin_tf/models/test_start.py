"""How a network begins: which feature each head sees, how sharp the relevance is, what each block looks at."""

import numpy as np
import pytest

from tests.twin_tf.toy import CONFIG, make_batch, make_model
from twin_tf.config import ModelConfig
from twin_tf.core.keras_api import tf
from twin_tf.layers.gsu import Retrieved
from twin_tf.layers.relevance import Relevance, starting_kernels
from twin_tf.models.attention_block import AttentionBlock
from twin_tf.search.din import DinSearch
from twin_tf.search.protocol import SearchInputs

DIMS, HEADS, HEAD_SIZE = [3, 2, 4], 5, 6
ROWS = {0: slice(0, 3), 1: slice(3, 5), 2: slice(5, 9)}


def test_per_feature_gives_each_head_a_feature_of_its_own_in_turn() -> None:
    query, item = starting_kernels(HEADS, HEAD_SIZE, DIMS, "per_feature", seed=3)
    np.testing.assert_array_equal(query, item)
    by_head = item.reshape(sum(DIMS), HEADS, HEAD_SIZE)
    for head in range(HEADS):
        seen = {feature for feature, rows in ROWS.items() if by_head[rows, head].any()}
        assert seen == {head % len(DIMS)}


def test_an_equal_start_is_one_matrix_and_an_unrelated_one_two() -> None:
    query, item = starting_kernels(HEADS, HEAD_SIZE, DIMS, "tied", seed=3)
    np.testing.assert_array_equal(query, item)
    assert all(item.reshape(sum(DIMS), HEADS, HEAD_SIZE)[rows].any(axis=(0, 2)).all() for rows in ROWS.values())
    query, item = starting_kernels(HEADS, HEAD_SIZE, DIMS, "independent", seed=3)
    assert abs(np.corrcoef(query.ravel(), item.ravel())[0, 1]) < 0.2


@pytest.mark.parametrize("start", ["per_feature", "tied"])
def test_an_item_is_as_relevant_to_itself_as_the_scale_says(start: str) -> None:
    """The scale multiplies the relevance, so each of the two kernels has its root."""
    items = tf.constant(np.random.default_rng(1).normal(size=(1, 4, sum(DIMS))), tf.float32)

    def self_relevance(scale: float) -> tuple[np.ndarray, Relevance]:
        layer = Relevance(HEADS, HEAD_SIZE, DIMS, {}, start, scale=scale, bias=False, seed=3)
        return layer.self_relevance(layer.project_queries(items), layer.project_items(items)).numpy(), layer

    one, first = self_relevance(1.0)
    hundred, second = self_relevance(100.0)
    np.testing.assert_allclose(hundred, 100 * one, rtol=1e-5)
    for kernel in ("query_kernel", "item_kernel"):
        np.testing.assert_allclose(getattr(second, kernel), 10 * getattr(first, kernel).numpy(), rtol=1e-6)


def test_a_match_starts_as_relevant_as_the_two_scales_say() -> None:
    """`relevance_init_scale * embedding_scale ** 2` with `per_feature`, on average over items (4 by default)."""
    shipped = ModelConfig()
    assert shipped.relevance_init_scale * shipped.embedding_scale**2 == pytest.approx(4.0)
    changes = {"projection_init": "per_feature", "heads": 2, "head_size": 6}
    changes |= {"embedding_scale": shipped.embedding_scale, "relevance_init_scale": shipped.relevance_init_scale}
    found = []
    for seed in range(1, 30):
        model = make_model(seed, **changes)
        embedded = model.relevance_embedding(tf.range(2, 42)[None])
        relevance = model.long_term.relevance
        found.append(relevance.self_relevance(relevance.project_queries(embedded), relevance.project_items(embedded)))
    assert np.mean(found) == pytest.approx(4.0, rel=0.1)


def test_the_short_term_block_sees_the_latest_behaviours_and_not_one_more() -> None:
    """Fifty in the paper: one more, or one fewer, is another network."""
    assert ModelConfig().short_term_length == 50
    model = make_model(search="din", top_k=2, short_term_length=4, relevance_statistics=False)
    batch = make_batch(np.random.default_rng(5), [20], 1)
    end = int(batch.targets.end.numpy()[0, 0])
    assert end > 6

    def changed(ago: int) -> bool:
        item = batch.history.item.numpy()
        item[0, end - ago] = 2 + (item[0, end - ago] + 7) % 40
        other = batch._replace(history=batch.history._replace(item=tf.constant(item)))
        return not np.array_equal(model(other).numpy()[:, :1], model(batch).numpy()[:, :1])

    assert [ago for ago in range(1, 8) if changed(ago)] == [1, 2, 3, 4]


class Careless(DinSearch):
    """Answers every column, as if all were visible."""

    def find(self, inputs: SearchInputs) -> Retrieved:
        columns = tf.range(tf.shape(inputs.behaviour)[1])[None, None, :]
        pairs = tf.shape(inputs.target)
        position = tf.broadcast_to(columns, [pairs[0], pairs[1], tf.shape(columns)[2]])
        return Retrieved(position, tf.ones_like(position, tf.bool))


def test_whatever_a_search_answers_nothing_out_of_sight_counts() -> None:
    model = make_model(search="din", top_k=50, short_term_length=0)
    batch = make_batch(np.random.default_rng(5), [20, 7], 3)
    careful = model(batch).numpy()
    block = model.long_term
    assert isinstance(block, AttentionBlock)
    block.search = Careless(50, CONFIG.history_length)
    found = model.score(batch)
    np.testing.assert_allclose(found.logit, careful, atol=1e-5)
    seen = found.long_term.retrieved
    assert (np.where(seen.valid, seen.position, -1) < batch.targets.end.numpy()[..., None]).all()
    assert len(set(batch.targets.end.numpy()[0].tolist())) > 1, "targets of one user must differ in what they see"
