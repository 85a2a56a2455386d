"""Every search strategy against loops of its paper's definition; its gradients; what it needs."""

import numpy as np
import pytest

from tests.reference import network, searches
from tests.twin_tf.models.test_faithful import places
from tests.twin_tf.searching import item_state, searching, settings_of
from tests.twin_tf.toy import ITEMS, make_batch, make_model, make_schema
from twin_tf.config import ModelConfig
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.keras_api import tf
from twin_tf.features.schema import schema_from_mapping
from twin_tf.models.twin import TwinModel
from twin_tf.search import STRATEGIES, find_strategy
from twin_tf.search.protocol import LearnedSearch, PoolingSearch
from twin_tf.search_settings import SEARCHES

MADE = sorted(name for name, strategy in STRATEGIES.items() if issubclass(strategy, PoolingSearch))
LENGTHS = [30, 0, 1, 9, 60]
TOPICS = {
    "name": "topics", "role": "inherent", "dim": 3, "multi_valued": {"max_values": 3},
    "encoding": {"kind": "hash", "buckets": 12},
}  # fmt: skip


def many_valued_model(search, **changes) -> TwinModel:
    """A model whose items have up to three topics, some none."""
    plain = make_schema().to_plain()
    plain["features"].insert(1, TOPICS)
    schema = schema_from_mapping(plain)
    generator = np.random.default_rng(5)
    topics = np.stack([generator.permutation(np.arange(1, 14))[:3] for _ in range(ITEMS + 2)])  # each at most once
    topics = np.where(generator.random(topics.shape) < 0.4, 0, topics)
    columns = [np.arange(ITEMS + 2), *topics.T, generator.integers(1, 11, ITEMS + 2)]
    features = np.stack(columns, axis=1).astype(np.int32)
    settings = {"search": search, "searches": settings_of(search), "top_k": 8, "history_length": 50, **changes}
    sizes = {f.name: f.encoding_or_fail.cardinality() for f in schema.features}
    return TwinModel(schema, ModelConfig(heads=2, head_size=4, **settings), features, sizes, 1)


def chosen(model, batch, user, target):
    """What the loops choose for a target, places in the history."""
    search, count = model.long_term.search, model.config.top_k
    end = network.end_of(batch, user, target)
    start = max(0, end - search.window)
    rows = batch.history.item[user, start:end]
    features = model.item_embedding.item_features.numpy()
    row = int(batch.targets.item[user, target])
    mine, theirs = features[row], features[rows]
    vector = network.item_vectors(model.relevance_embedding, [row])[0]
    vectors = network.item_vectors(model.relevance_embedding, rows)
    state = None if model.item_state is None else model.item_state.numpy()
    if search.name == "twin":
        alpha = network.alpha_of(model, model.long_term, batch, user, target)
        return network.find(model.long_term, alpha, end)
    if search.name == "din":
        return network.find(model.long_term, None, end)
    if search.name == "sim_hard":
        found = searches.sim_hard(mine, theirs, slice(*search.columns), count)
    elif search.name == "ubr4ctr":
        found = searches.ubr4ctr(mine, theirs, search.spans, count)
    elif search.name == "sim_soft":
        found = searches.sim_soft(state[row], state[rows], count)
    elif search.name == "sim_cluster":
        found = searches.sim_cluster(state[row, 0], state[rows, 0], count)
    elif search.name == "eta":
        found = searches.eta(vector, vectors, search.planes, count)
    elif search.name == "sdim":
        found = searches.sdim(vector, vectors, search.planes, search.round_bits, count)
    elif search.name == "sim_soft_learned":
        kernels = (search.layer.target_kernel.numpy(), search.layer.item_kernel.numpy())
        found = searches.sim_soft_learned(vector, vectors, *kernels, count)
    else:
        pytest.fail(f"{search.name} has no loop in tests/reference/searches.py yet; call it here")
    return [start + place for place in found]


def check(model, batch):
    retrieved = model.score(batch).long_term.retrieved
    arrays = tf.nest.map_structure(np.asarray, batch)
    for user, target in np.ndindex(arrays.targets.item.shape):
        assert places(retrieved, user, target) == chosen(model, arrays, user, target), (user, target)


@pytest.mark.parametrize("search", sorted(set(STRATEGIES) - set(MADE)))
@pytest.mark.parametrize("shared_moment", [False, True])
@pytest.mark.parametrize("window", [50, 11])
def test_a_search_chooses_what_its_definition_says(search, shared_moment, window):
    model = searching(search, history_length=window)
    check(model, make_batch(np.random.default_rng(3), LENGTHS, 4, shared_moment=shared_moment))


@pytest.mark.parametrize("search", ["sim_hard", "ubr4ctr"])
def test_features_of_several_values_are_searched_value_by_value(search):
    changes = {"searches": settings_of("sim_hard", category="topics")} if search == "sim_hard" else {}
    model = many_valued_model(search, **changes)
    check(model, make_batch(np.random.default_rng(4), [40, 12], 4))


@pytest.mark.parametrize("search", MADE)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shared_moment", [False, True])
def test_made_entries_are_attended_as_behaviours(search, bias, shared_moment):
    """The ESU over the means of K, in loops."""
    model = searching(search, bias=bias, schema=make_schema(("play_time", "age", "weekday", "recency")))
    batch = make_batch(np.random.default_rng(5), [30, 0, 1, 60], 3, shared_moment=shared_moment, schema=model.schema)
    found = model.score(batch).long_term
    assert not found.retrieved.valid.numpy().any()
    arrays = tf.nest.map_structure(np.asarray, batch)
    layer, relevance = model.long_term.attention, model.long_term.relevance
    for user, target in np.ndindex(arrays.targets.item.shape):
        end = network.end_of(arrays, user, target)
        start = max(0, end - model.config.history_length)
        part = slice(start, end)
        items = network.item_vectors(model.item_embedding, arrays.history.item[user])
        cross = network.cross_vectors(model, arrays, user, target)
        if search == "avg_pooling":
            weights = searches.avg_pooling(items[part])
        elif search != "mimn":
            pytest.fail(f"{search} has no loop in tests/reference/searches.py yet; call it here")
        else:
            weights = searches.mimn(items[part], model.long_term.search.layer.kernel.numpy())
        entries = weights @ items[part]
        mixed = {name: weights @ vectors[part] for name, vectors in cross.items()}
        biased = mixed if bias else {}
        query = network.item_vectors(model.relevance_embedding, [arrays.targets.item[user, target]])[0]
        alpha = network.attention.relevance(
            query, entries, relevance.query_kernel.numpy(), relevance.item_kernel.numpy(), list(biased.values()),
            [relevance.cross_kernels[name].numpy() for name in biased],
            [float(relevance.beta[relevance.cross_names.index(name)]) for name in biased], relevance.heads,
        )  # fmt: skip
        full = np.concatenate([entries, *[mixed[name] for name in layer.cross_offsets]], axis=1)
        kernel = np.concatenate([layer.item_kernel.numpy(), layer.cross_kernel.numpy()])
        every = list(range(len(entries))) if end > start else []
        output = network.attention.target_attention(alpha, every, full, kernel, layer.output_kernel.numpy())
        np.testing.assert_allclose(found.output[user, target], output, atol=1e-5, rtol=1e-4)
        relevance_statistics = network.attention.relevance_statistics(alpha, every)
        np.testing.assert_allclose(found.relevance_statistics[user, target], relevance_statistics, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("search", MADE)
def test_a_cluster_weighs_in_made_entries_as_its_members_would(search):
    schema = make_schema(("play_time",), clustered=True)
    model = searching(search, schema=schema, short_term_length=0)
    batch = make_batch(np.random.default_rng(9), [12], 3, shared_moment=True, schema=schema)
    counts = batch.history.count.numpy()[0] % 4 + 1
    total = int(counts.sum())
    batch = batch._replace(history=batch.history._replace(count=tf.constant(counts[None])))
    spread = batch.history._replace(
        **{name: tf.repeat(getattr(batch.history, name), counts, axis=1) for name in ("item", "time")},
        cross={name: tf.repeat(index, counts, axis=1) for name, index in batch.history.cross.items()},
        length=tf.constant([total], tf.int32),
        count=tf.ones([1, total], tf.int32),
    )
    members = batch._replace(history=spread, targets=batch.targets._replace(end=tf.fill([1, 1], total)))
    found, expected = (model.score(one).long_term.output for one in (batch, members))
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-4)
    without = searching(search, schema=schema, short_term_length=0, cluster_size_bias="neither")
    assert np.abs(without.score(batch).long_term.output - expected).max() > 1e-3


@pytest.mark.parametrize("search", sorted(STRATEGIES))
def test_a_step_teaches_every_weight_that_can_learn(search):
    model, batch = searching(search), make_batch(np.random.default_rng(6), [40, 30, 20], 6)
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch, training=True)
    gradients = tape.gradient(loss, model.trainable_variables)
    assert np.isfinite(loss)
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.name
        assert np.isfinite(tf.convert_to_tensor(gradient)).all(), variable.name
    own = [] if model.long_term.search.layer is None else model.long_term.search.layer.trainable_variables
    for variable in own:
        gradient = gradients[[v.ref() for v in model.trainable_variables].index(variable.ref())]
        assert np.abs(gradient).max() > 0, variable.name


@pytest.mark.parametrize("shared_moment", [False, True])
def test_what_a_learned_search_predicts_by_itself(shared_moment):
    """The soft sum over what each target sees, and nothing else: neither padding nor what came later."""
    model = searching("sim_soft_learned", history_length=25)
    batch = make_batch(np.random.default_rng(3), LENGTHS, 4, shared_moment=shared_moment)
    found, arrays = model.score(batch).auxiliary_logit, tf.nest.map_structure(np.asarray, batch)
    layer = model.long_term.search.layer
    kernels = (layer.target_kernel.numpy(), layer.item_kernel.numpy())
    dense = [tuple(weight.numpy() for weight in (part.kernel, part.bias)) for part in (layer.hidden, layer.logit)]
    for user, target in np.ndindex(arrays.targets.item.shape):
        end = network.end_of(arrays, user, target)
        seen = arrays.history.item[user, max(0, end - 25) : end]
        vectors = network.item_vectors(model.relevance_embedding, seen)
        mine = network.item_vectors(model.relevance_embedding, [arrays.targets.item[user, target]])[0]
        expected = searches.soft_sum_logit(mine, vectors, *kernels, *dense)
        np.testing.assert_allclose(found[user, target], expected, atol=1e-5, rtol=1e-4)


def test_a_learned_search_learns_from_its_own_prediction_alone():
    model, batch = searching("sim_soft_learned"), make_batch(np.random.default_rng(6), [40, 30], 6)
    assert isinstance(model.long_term.search, LearnedSearch)
    own = model.long_term.search.layer.trainable_variables
    with tf.GradientTape(persistent=True) as tape:
        sums = model.loss_sums(batch, training=True)
    assert float(sums.auxiliary) > 0
    assert all(gradient is None for gradient in tape.gradient(sums.own, own))
    for variable in model.trainable_variables:
        if all(variable is not mine for mine in own):
            assert tape.gradient(sums.auxiliary, variable) is None, variable.name


def test_a_search_by_embeddings_takes_an_item_that_it_does_not_know_for_none():
    model, batch = searching("sim_soft"), make_batch(np.random.default_rng(7), [30], 2)
    late = batch._replace(history=batch.history._replace(item=tf.fill([1, 30], ITEMS + 500)))
    assert np.isfinite(model(late)).all()


def test_what_a_search_needs_is_said():
    with pytest.raises(ConfigError, match="needs model.searches.sim_hard.category, an inherent feature, not None"):
        make_model(search="sim_hard")
    with pytest.raises(ConfigError, match="not 'auther'; did you mean 'author'"):
        make_model(search="sim_hard", searches=settings_of("sim_hard", category="auther"))
    with pytest.raises(ConfigError, match="searches.sdim.bits 10 must be a multiple of round_bits 3"):
        make_model(search="sdim", searches=settings_of("sdim", bits=10))
    with pytest.raises(ConfigError, match="pools the history into entries and needs model.relevance: split"):
        make_model(search="avg_pooling", relevance="raw")
    with pytest.raises(ConfigError, match="'simhsh' is not known"):
        find_strategy("simhsh")
    with pytest.raises(ConfigError, match="searches.mimn: slots must be at least 1, not 0"):
        settings_of("mimn", slots=0)
    assert set(STRATEGIES) == set(SEARCHES)


def test_clusters_are_of_near_items_and_the_seed_decides():
    first, again, other = (item_state("sim_cluster", clusters=k) for k in (5, 5, 9))
    np.testing.assert_array_equal(first, again)
    assert set(first[[0, 1, 7], 0]) == {-1.0}
    assert len(np.unique(first)) == 6 and len(np.unique(other)) == 10


@pytest.mark.parametrize("search", MADE)
def test_overlap_means_nothing_for_what_chooses_nothing(search):
    assert np.isnan(searching(search).gsu_overlap(make_batch(np.random.default_rng(8), [20])))
