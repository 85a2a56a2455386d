"""Every search strategy is exported, loads in the C++ loader and serves the trainer's scores."""

import numpy as np
import pytest

from export.saved_model.servable import Servable
from tests.export.toy_servable import as_trained, in_cpp, make_requests, make_toy
from tests.twin_tf.searching import item_state, settings_of
from twin_tf.core.keras_api import tf
from twin_tf.search import STRATEGIES

pytestmark = pytest.mark.integration

BY_DAY = {"twin", "sim_soft", "mimn"}
"""By relevance, by vectors of its own, by pooling; the others differ from these in how they score alone."""

SEARCHES = [name if name in BY_DAY else pytest.param(name, marks=pytest.mark.slow) for name in sorted(STRATEGIES)]

ITEMS = 62  # of the toys' catalogue, padding and unknown included


def toy_of(search, items=ITEMS - 2, seed=1):
    own = {"searches": settings_of(search), "item_state": item_state(search, items + 2)}
    return make_toy(items, seed=seed, search=search, **own)


@pytest.mark.parametrize("search", SEARCHES)
def test_every_search_is_served_as_it_scores(search, tmp_path):
    toy = toy_of(search)
    servable = Servable(toy.model, toy.schema, toy.item_ids, 11, 12)
    tf.saved_model.save(servable, str(tmp_path / "model"), signatures=servable.signatures)
    request = make_requests(toy, users=12, columns=70, candidates=5)
    served, retrieved = in_cpp(
        tmp_path / "cpp", [(tmp_path / "model", name, request) for name in ("serving_default", "retrieve")]
    )
    scores = toy.model.score(as_trained(toy, request), toy.model.projection_table())
    np.testing.assert_allclose(served["probability"], tf.sigmoid(scores.logit), atol=1e-5)
    live = toy.model.score(as_trained(toy, request))
    np.testing.assert_allclose(served["probability"], tf.sigmoid(live.logit), atol=1e-5)
    assert np.ptp(served["probability"]) > 0.05
    found = live.long_term.retrieved
    valid = np.broadcast_to(found.valid, retrieved["valid"].shape)
    np.testing.assert_array_equal(retrieved["valid"], valid)
    np.testing.assert_array_equal(
        np.where(valid, retrieved["position"], 0), np.where(valid, np.broadcast_to(found.position, valid.shape), 0)
    )


@pytest.mark.parametrize("search", ["sim_soft", "sim_cluster"])
def test_a_refresh_with_more_items_keeps_the_graph(search, tmp_path):
    """The next day's run and its embeddings know more items: the variables are rewritten under the same graph."""
    before, after = toy_of(search), toy_of(search, items=80, seed=2)
    servable = Servable(before.model, before.schema, before.item_ids, 11, 12)
    tf.saved_model.save(servable, str(tmp_path / "model"), signatures=servable.signatures)
    Servable(after.model, after.schema, after.item_ids, 13, 14).write_variables(tmp_path / "model")
    request = make_requests(after, users=6, columns=50)
    (served,) = in_cpp(tmp_path / "cpp", [(tmp_path / "model", "serving_default", request)])
    live = after.model.score(as_trained(after, request))
    np.testing.assert_allclose(served["probability"], tf.sigmoid(live.logit), atol=1e-5)
