"""The stages are twins: what the GSU finds is what the ESU ranks highest, until its parameters are others or older."""

import numpy as np
import pytest

from tests.reference import network
from tests.twin_tf.toy import ITEMS, make_batch, make_model
from twin_tf.core.keras_api import tf
from twin_tf.training.train_step import TrainStep
from twin_tf.training_settings import TrainingConfig

LONG = {"heads": 4, "head_size": 8, "top_k": 100, "history_length": 2000, "mixer": (4,)}
LENGTHS = [1200, 1000, 700]


def shaken(model, seed=1, size=0.3):
    """Weights as training leaves them: nothing equal, nothing orthogonal."""
    generator = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        variable.assign_add(generator.normal(0, size, variable.shape).astype(np.float32))
    return model


def long_model(**changes):
    return shaken(make_model(**{**LONG, **changes}))


def long_batch(lengths=LENGTHS, targets=2):
    return make_batch(np.random.default_rng(2), lengths, targets)


def true_retrieved(model, batch):
    """(user, target) -> the exact top-K by the ESU's own metric, in NumPy."""
    batch = tf.nest.map_structure(np.asarray, batch)
    true = {}
    for user, target in np.ndindex(batch.targets.item.shape):
        alpha = network.alpha_of(model, model.long_term, batch, user, target)
        end = network.end_of(batch, user, target)
        seen = [end - model.config.history_length <= place < end for place in range(alpha.shape[1])]
        true[user, target] = network.attention.merge_heads(alpha, seen, model.config.top_k)
    return true


def overlap_in_a_loop(model, batch, true):
    """Of the exact top-K the share that a training step's own search finds."""
    found = model.score(batch, model.projection_cache, exact=False).long_term.retrieved
    hits = wanted = 0
    for (user, target), places in true.items():
        if target < int(batch.targets.count[user]):
            row = target if found.position.shape[1] > 1 else 0
            got = found.position[user, row].numpy()[found.valid[user, row].numpy()]
            hits, wanted = hits + len(set(got.tolist()) & set(places)), wanted + len(places)
    return hits / wanted


@pytest.mark.parametrize("relevance", ["split", "raw"])
def test_with_fresh_parameters_the_gsu_finds_100_of_the_true_100(relevance):
    model, batch = long_model(relevance=relevance), long_batch()
    true = true_retrieved(model, batch)
    assert len(true[0, 0]) == 100
    assert overlap_in_a_loop(model, batch, true) == 1
    assert float(model.gsu_overlap(batch)) == 1


def test_a_table_of_projections_ages_and_is_brought_up_to_date():
    model, batch = long_model(), long_batch()
    with pytest.raises(ValueError, match="call cache_projections first"):
        model.refresh_projections()
    model.cache_projections()
    assert float(model.gsu_overlap(batch)) == 1
    config = TrainingConfig(embedding_learning_rate=0.05, dense_learning_rate=0.02, schedule="constant")
    trainer = TrainStep(model, config)
    overlaps = []
    for _ in range(2):
        for _ in range(3):
            trainer.step(batch)
        overlaps.append(float(model.gsu_overlap(batch)))
    assert 1 > overlaps[0] > overlaps[1]
    assert overlaps[1] == pytest.approx(overlap_in_a_loop(model, batch, true_retrieved(model, batch)))
    model.refresh_projections()
    assert float(model.gsu_overlap(batch)) == 1
    assert overlap_in_a_loop(model, batch, true_retrieved(model, batch)) == 1


def test_training_searches_the_cached_table_and_nothing_else_does():
    model, batch = long_model(relevance_statistics=False), long_batch()
    model.cache_projections()
    fresh = float(model.loss_sums(batch, training=True).own)
    assert float(model.loss_sums(batch).own) == fresh
    model.projection_cache.assign(tf.random.stateless_normal(model.projection_cache.shape, [1, 2]))
    assert float(model.loss_sums(batch, training=True).own) != fresh
    assert float(model.loss_sums(batch).own) == fresh


@pytest.mark.parametrize("changes", [{"consistency": "auxiliary"}, {"search": "din"}])
def test_another_search_finds_what_a_loop_says(changes):
    model, batch = long_model(**changes), long_batch([300, 150, 40, 0])
    batch = batch._replace(targets=batch.targets._replace(count=tf.constant([2, 1, 2, 2])))
    overlap = float(model.gsu_overlap(batch))
    assert 0 < overlap < 1
    assert overlap == pytest.approx(overlap_in_a_loop(model, batch, true_retrieved(model, batch)))


def test_entropy_is_that_of_each_target_with_history_by_the_definition():
    model, batch = long_model(), long_batch([300, 150, 40, 0])
    batch = batch._replace(targets=batch.targets._replace(count=tf.constant([2, 1, 2, 2])))
    arrays, found, normalised = tf.nest.map_structure(np.asarray, batch), [], []
    for (user, target), places in true_retrieved(model, batch).items():
        if target < batch.targets.count[user] and places:
            for alpha in network.alpha_of(model, model.long_term, arrays, user, target)[:, list(places)]:
                share = np.exp(alpha - alpha.max()) / np.exp(alpha - alpha.max()).sum()
                found.append(-np.sum(share * np.log(np.maximum(share, 1e-300))))
                normalised.append(found[-1] / np.log(len(places)))
    assert len(found) == 5 * model.config.heads
    _, entropy, share = (float(figure) for figure in model.attention_figures(batch))
    assert entropy == pytest.approx(np.mean(found), rel=1e-5)
    assert share == pytest.approx(np.mean(normalised), rel=1e-5)


def test_a_single_behaviour_has_no_normalised_entropy():
    model, batch = long_model(), long_batch([300, 1])
    one = batch._replace(targets=batch.targets._replace(count=tf.constant([0, 2])))
    both = batch._replace(targets=batch.targets._replace(count=tf.constant([2, 2])))
    first = batch._replace(targets=batch.targets._replace(count=tf.constant([2, 0])))
    figures = [[float(figure) for figure in model.attention_figures(given)] for given in (one, both, first)]
    assert figures[0][1] == pytest.approx(0, abs=1e-6) and np.isnan(figures[0][2])
    assert figures[1][2] == pytest.approx(figures[2][2], rel=1e-5)


def test_recent_search_finds_the_latest_of_the_true_retrieved():
    model, batch = long_model(search="din", top_k=10), long_batch([200], 1)
    true = true_retrieved(model, batch)[0, 0]
    assert float(model.gsu_overlap(batch)) == pytest.approx(sum(place >= 190 for place in true) / 10)


def test_without_any_history_there_is_no_overlap():
    figures = make_model().attention_figures(make_batch(np.random.default_rng(1), [0, 0]))
    assert np.isnan([float(figure) for figure in figures]).all()


def test_the_auxiliary_twin_learns_beside_and_lends_its_search_alone():
    """Its loss comes on top of the first's, and no gradient of the first's logit reaches it."""
    model, batch = make_model(consistency="auxiliary"), make_batch(np.random.default_rng(3), [40, 20])
    with tf.GradientTape(persistent=True) as tape:
        scores = model.score(batch)
        mine = tf.reduce_sum(scores.logit)
        sums = model.loss_sums(batch)
        total, weight = sums.total, sums.weight
    twin = model.auxiliary.trainable_variables
    assert all(gradient is None for gradient in tape.gradient(mine, twin))
    assert all(gradient is not None for gradient in tape.gradient(total, twin))
    losses = [
        model.click_loss(s, batch.label, batch.weight, batch.targets.count)[0]
        for s in (scores.logit, scores.auxiliary_logit)
    ]
    np.testing.assert_allclose([sums.own, sums.auxiliary], losses, rtol=1e-6)
    np.testing.assert_allclose(total, sum(losses), rtol=1e-6)
    assert float(TrainStep(model, TrainingConfig()).step(batch).loss_sum) == pytest.approx(float(sums.own), rel=1e-5)
    assert float(weight) == 6


def test_the_table_is_the_auxiliary_twins_where_there_is_one():
    """The search is the twin's, so what is computed ahead for it is the twin's too."""
    model = make_model(consistency="auxiliary")
    rows = tf.range(ITEMS + 2)
    np.testing.assert_array_equal(model.projection_table(), model.auxiliary.project_items(rows))
    own = model.long_term.relevance.project_items(model.relevance_embedding(rows))
    assert (model.projection_table().numpy() != own.numpy()).any()


@pytest.mark.parametrize("served", [False, True], ids=["live weights", "exact table"])
def test_serving_and_training_search_by_the_same_relevance_to_the_last_bit(served):
    """Or two nearly equal behaviours at the border of the retrieved behaviours change places when a model is served."""
    model = long_model()
    alike = make_batch(np.random.default_rng(2), LENGTHS, 8, shared_moment=True)
    timestamps = {name: tf.repeat(getattr(alike.targets, name), 8, axis=1) for name in ("time", "end")}
    each = alike._replace(targets=alike.targets._replace(**timestamps))

    def relevance(batch, table):
        block = model.long_term
        cross, items, queries = model._looked_up(batch, table, True)
        inputs = block._look(block.search, items, queries, batch.history, cross, batch.targets)
        return block._search_scores(inputs, "search").numpy()

    table = model.projection_table() if served else None
    np.testing.assert_array_equal(relevance(alike, table), relevance(each, None))
