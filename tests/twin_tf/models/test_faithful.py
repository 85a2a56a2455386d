"""The network against plain NumPy loops of the papers' equations, with every option."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.reference import network
from tests.twin_tf.searching import searching
from tests.twin_tf.toy import CROSS, ITEMS, make_batch, make_model, make_schema
from twin_tf.core.keras_api import tf
from twin_tf.search import STRATEGIES

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
SHAKE = 0.2
"""How far weights are from their start: W^q and W^h of a trained model are neither equal nor selections of columns."""


def trained_like(**options):
    """A model with noise in every dense weight; no two different behaviours are equally relevant by design."""
    model = make_model(**options)
    generator = np.random.default_rng(12)
    for variable in model.dense_variables:
        variable.assign_add(generator.normal(0, SHAKE, variable.shape).astype(np.float32))
    return model


def run_block(model, block, batch):
    cross, items, queries = model._looked_up(batch, None, True)
    return block(items, queries, batch.history, cross, batch.targets)


def places(retrieved, user, target):
    """The retrieved behaviours of a target, as a list."""
    row = target if retrieved.position.shape[1] > 1 else 0
    return retrieved.position[user, row].numpy()[retrieved.valid[user, row].numpy()].tolist()


def check_block(found, expected, user, target):
    assert places(found.retrieved, user, target) == expected.retrieved
    count = len(expected.retrieved)
    alpha = found.relevance[user, target].numpy()[:, :count]
    np.testing.assert_allclose(alpha, expected.alpha[:, expected.retrieved], **CLOSE)
    np.testing.assert_allclose(found.output[user, target], expected.output, **CLOSE)
    np.testing.assert_allclose(found.relevance_statistics[user, target], expected.relevance_statistics, **CLOSE)


def check_network(model, batch, table=None):
    """Long-term block, short-term block and logit of every target agree with the loops."""
    scores = model.score(batch, table)
    short = None if model.short_term is None else run_block(model, model.short_term, batch)
    batch = tf.nest.map_structure(np.asarray, batch)
    users, targets = batch.targets.item.shape
    for user in range(users):
        for target in range(targets):
            expected = network.long_term(model, batch, user, target)
            check_block(scores.long_term, expected, user, target)
            if short is not None:
                check_block(short, network.attend(model, model.short_term, batch, user, target), user, target)
            logit = network.logit(model, batch, user, target, expected)
            np.testing.assert_allclose(scores.logit[user, target], logit, **CLOSE)


ALL = tuple(CROSS)
OPTIONS = {
    "as the paper": {"relevance_statistics": False, "projection_init": "independent"},
    "without bias": {"bias": False},
    "tied start": {"projection_init": "tied"},
    "start per feature": {"projection_init": "per_feature"},
    "four heads": {"heads": 4, "head_size": 3},
    "one head": {"heads": 1, "head_size": 5},
    "raw attention": {"relevance": "raw"},
    "raw attention without cross features": {"relevance": "raw", "bias": False},
    "auxiliary twin": {"consistency": "auxiliary"},
    "decoupled embeddings": {"decoupled_embeddings": True, "decoupled_dim": 3},
    "decoupled raw attention with an auxiliary twin": {
        "decoupled_embeddings": True, "decoupled_dim": 5, "relevance": "raw", "consistency": "auxiliary",
    },
    "top_k larger than the history": {"top_k": 100},
    "one retrieved behaviour": {"top_k": 1},
    "a window shorter than the history": {"history_length": 11, "top_k": 4},
    "a window shorter than the number of retrieved behaviours": {"history_length": 6, "top_k": 20, "short_term_length":
    9}, "the latest behaviours": {"search": "din"},
    "null key": {"null_key": True},
    "null key of another search": {"null_key": True, "search": "din"},
    "graded counts": {"graded_counts": (1.0, 0.5), "relevance_statistics": False},
    "equality bias": {"equality_bias": True},
    "all that is beyond the paper": {
        "null_key": True, "graded_counts": (0.9, 0.3), "equality_bias": True, "decoupled_embeddings": True,
    },
    "no short-term block": {"short_term_length": 0, "mixer": (6, 5)},
}  # fmt: skip
SCHEMAS = {
    "no cross feature": {"cross": ()},
    "stored": {"cross": ("page_position",)},
    "one relative": {"cross": ("age",)},
    "only relative": {"cross": ("recency", "age")},
    "only clocks": {"cross": ("daytime", "weekday"), "utc_offset_hours": -3.5},
    "everything, in milliseconds": {"cross": ALL, "unit": "ms", "utc_offset_hours": 5.75},
    "everything, in seconds": {"cross": ("recency", "page_position", "weekday", "age", "play_time", "daytime")},
}
LENGTHS = [30, 0, 1, 9, 60]
STAGES = ["both", "search", "attention", "neither"]
"""Where ln n of clusters may be added."""


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_agrees_with_the_equations(option):
    check_network(trained_like(**OPTIONS[option]), make_batch(np.random.default_rng(3), LENGTHS))


@pytest.mark.parametrize("relevance", ["split", "raw"])
@pytest.mark.parametrize("name", SCHEMAS)
def test_every_kind_of_cross_feature_agrees_with_the_equations(name, relevance):
    schema = make_schema(**SCHEMAS[name])
    batch = make_batch(np.random.default_rng(4), LENGTHS[:4], 2, schema=schema)
    check_network(trained_like(schema=schema, relevance=relevance), batch)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(
    options=st.fixed_dictionaries(
        {
            "heads": st.sampled_from([1, 2, 4]),
            "head_size": st.integers(1, 7),
            "top_k": st.sampled_from([1, 5, 30]),
            "history_length": st.sampled_from([1, 7, 40]),
            "short_term_length": st.sampled_from([0, 1, 12]),
            "bias": st.booleans(),
            "relevance": st.sampled_from(["split", "raw"]),
            "consistency": st.sampled_from(["shared", "auxiliary"]),
            "decoupled_embeddings": st.booleans(),
            "projection_init": st.sampled_from(["per_feature", "tied", "independent"]),
            "relevance_statistics": st.booleans(),
            "null_key": st.booleans(),
            "graded_counts": st.sampled_from([(), (1.0,), (0.8, 0.2)]),
            "equality_bias": st.booleans(),
            "relevance_init_scale": st.sampled_from([0.5, 1.0, 4.0]),
            "cluster_size_bias": st.sampled_from(STAGES),
        }
    ),
    clustered=st.booleans(),
    cross=st.lists(st.sampled_from(ALL), unique=True),
    unit=st.sampled_from(["s", "ms"]),
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=3),
    targets=st.integers(1, 3),
    serving=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_any_options_together_agree_with_the_equations(
    options, clustered, cross, unit, lengths, targets, serving, seed
):
    schema = make_schema(cross, unit, clustered=clustered)
    model = trained_like(schema=schema, **options)
    batch = make_batch(np.random.default_rng(seed), lengths, targets, shared_moment=serving, schema=schema)
    check_network(model, batch, model.projection_table() if serving else None)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"heads": 4, "relevance_statistics": False},
        {"bias": False},
        {"decoupled_embeddings": True},
        {"consistency": "auxiliary"},
    ],
)
def test_serving_agrees_with_the_equations(options):
    """One moment a user, and the item halves from the table: in the search and, exact as it is, in the ESU."""
    schema = make_schema(ALL, "ms")
    model = trained_like(schema=schema, **options)
    batch = make_batch(np.random.default_rng(5), [25, 0, 60], 4, shared_moment=True, schema=schema)
    check_network(model, batch, model.projection_table())


@pytest.mark.parametrize("served", [False, True], ids=["training", "serving"])
@pytest.mark.parametrize("relevance", ["split", "raw"])
@pytest.mark.parametrize("stages", STAGES)
def test_clusters_agree_with_the_equations(stages, relevance, served):
    schema = make_schema(clustered=True)
    model = trained_like(schema=schema, cluster_size_bias=stages, relevance=relevance)
    batch = make_batch(np.random.default_rng(6), LENGTHS, 3, shared_moment=served, schema=schema)
    check_network(model, batch, model.projection_table() if served else None)


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"relevance": "raw"}])
def test_clusters_of_one_score_as_the_behaviours_they_are_to_the_last_bit(options):
    plain, clustered = (trained_like(schema=make_schema(clustered=clustered), **options) for clustered in (False, True))
    batch = make_batch(np.random.default_rng(7), LENGTHS)
    np.testing.assert_array_equal(plain.score(batch).logit, clustered.score(batch).logit)
    served = make_batch(np.random.default_rng(7), LENGTHS, shared_moment=True)
    logits = [model.score(served, model.projection_table()).logit for model in (plain, clustered)]
    np.testing.assert_array_equal(*logits)


def test_a_cluster_attracts_as_its_members_would_together():
    """Softmax(alpha + ln n) is n exp(alpha): one entry of n and n equal entries of one give the same output."""
    schema = make_schema(cross=("play_time",), clustered=True)
    model = trained_like(schema=schema, top_k=100, short_term_length=0)
    batch = make_batch(np.random.default_rng(8), [12], 3, shared_moment=True, schema=schema)
    counts = batch.history.count.numpy()[0]
    spread = batch.history._replace(
        **{name: tf.repeat(getattr(batch.history, name), counts, axis=1) for name in ("item", "time")},
        cross={name: tf.repeat(index, counts, axis=1) for name, index in batch.history.cross.items()},
        length=tf.constant([counts.sum()], tf.int32),
        count=tf.ones([1, counts.sum()], tf.int32),
    )
    model.long_term.search.top_k = model.long_term.search.history_length = int(counts.sum())
    members = batch._replace(history=spread, targets=batch.targets._replace(end=tf.fill([1, 1], int(counts.sum()))))
    np.testing.assert_allclose(model.score(batch).long_term.output, model.score(members).long_term.output, **CLOSE)


def test_a_batch_of_one_behaviour_and_one_target_agrees_with_the_equations():
    model = trained_like()
    for seed, length in enumerate([0, 1, 40]):
        check_network(model, make_batch(np.random.default_rng(seed), [length], 1))
        check_network(
            model, make_batch(np.random.default_rng(seed), [length], 1, shared_moment=True), model.projection_table()
        )


@pytest.mark.parametrize("length", [0, 1, 99, 100, 101])
def test_users_around_the_number_of_retrieved_agree_with_the_equations(length):
    model = trained_like(top_k=100, history_length=300)
    batch = make_batch(np.random.default_rng(length), [length, 120], 2)
    check_network(model, batch)
    found = model.score(batch).long_term.retrieved
    assert found.position.shape[2] == 100
    assert len(set(places(found, 0, 0))) == min(length, 100)


def test_a_user_without_history_scores_as_the_network_with_zero_blocks(monkeypatch):
    model = trained_like()
    batch = make_batch(np.random.default_rng(7), [0, 12, 0])
    scores = model.score(batch).logit.numpy()
    block = type(model.long_term)
    attend = block.call

    def nothing(self, *arguments):
        found = attend(self, *arguments)
        return found._replace(
            output=tf.zeros_like(found.output), relevance_statistics=tf.zeros_like(found.relevance_statistics)
        )

    monkeypatch.setattr(block, "call", nothing)
    zero = model.score(batch).logit.numpy()
    np.testing.assert_array_equal(scores[[0, 2]], zero[[0, 2]])
    assert (scores[1] != zero[1]).all()


def test_a_user_without_history_gets_an_exact_zero_vector():
    model = trained_like()
    batch = make_batch(np.random.default_rng(7), [0, 12])
    for block in (model.long_term, model.short_term):
        found = run_block(model, block, batch)
        assert not found.output[0].numpy().any()
        assert not found.relevance_statistics[0].numpy().any()
        assert not found.retrieved.valid[0].numpy().any()
        assert np.isfinite(found.output.numpy()).all()


@pytest.mark.parametrize("relevance", ["split", "raw"])
def test_the_bias_moves_the_ranking(relevance):
    batch = make_batch(np.random.default_rng(5), [40])
    model = trained_like(relevance=relevance)
    with_bias = model.score(batch).long_term.retrieved.position.numpy()
    layer = model.long_term.relevance
    weight = layer.cross_kernel if relevance == "raw" else layer.beta
    weight.assign(tf.zeros_like(weight))
    without = model.score(batch).long_term.retrieved.position.numpy()
    assert set(with_bias[0, 0]) != set(without[0, 0])


def test_the_search_runs_without_gradient_and_the_retrieved_relevance_with_it():
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


def test_items_are_rows_of_the_toy_catalogue():
    """The batches of this file reach the unknown row and rows out of a table's range."""
    batch = make_batch(np.random.default_rng(3), LENGTHS)
    assert {1, ITEMS + 1} <= set(batch.history.item.numpy().ravel().tolist())
    assert batch.history.cross["play_time"].numpy().max() == 6


@pytest.mark.parametrize("search", ["raw", *sorted(STRATEGIES)])
@pytest.mark.parametrize("shared_moment", [False, True])
def test_no_product_spreads_an_operand_itself(monkeypatch, search, shared_moment):
    """TensorFlow 2.20 computes some of those wrongly where oneDNN runs on AMX or AVX-512."""
    multiply, seen = tf.matmul, []

    def watched(left, right, **options):
        seen.append((left.shape[:-2], right.shape[:-2]))
        return multiply(left, right, **options)

    model = make_model(relevance="raw") if search == "raw" else searching(search)
    batch = make_batch(np.random.default_rng(3), [30, 12, 0], targets_per_user=4, shared_moment=shared_moment)
    monkeypatch.setattr(tf, "matmul", watched)
    model.score(batch)
    assert len(seen) > 10
    assert [pair for pair in seen if pair[0] != pair[1]] == []


def test_a_batch_without_users_scores_nobody():
    model = make_model()
    batch = make_batch(np.random.default_rng(3), [30], targets_per_user=4)
    nobody = tf.nest.map_structure(lambda tensor: tensor[:0], batch)
    assert model.score(nobody).logit.shape == (0, 4)
