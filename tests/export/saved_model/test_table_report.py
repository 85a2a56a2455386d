"""The table's worth is counted as defined: by hand on a toy, and for a rounded table against what it retrieves."""

import numpy as np
import pytest

from export.saved_model.servable import Servable
from export.saved_model.table_report import ProjectionWork, projection_work, rounding_loss
from tests.export.toy_servable import as_trained, make_requests, make_toy
from twin_tf.core.keras_api import tf
from twin_tf.layers import embeddings

pytestmark = pytest.mark.integration

HEADS, HEAD_SIZE, WIDTH = 3, 4, 10
A_ROW = WIDTH * HEADS * HEAD_SIZE
FOLDING = HEADS * (7 * 3 + 6 * 5 + 9 * 2)  # play_time, age, weekday: rows x width


def one_request(toy):
    """Six behaviours, five of them before the moment, of three items, one unknown; two candidates, one unknown."""
    a, b, c = toy.item_ids[[2, 3, 4]]
    return {
        "history_item": np.array([[a, b, a, 5, 5, c, 77]]),
        "history_time": np.array([[1, 2, 3, 4, 5, 9, 0]]),
        "history_length": np.array([6], np.int32),
        "history_play_time": np.array([[1, 2, 2, 3, 3, 4, 5]], np.int32),
        "request_time": np.array([9]),
        "candidate_item": np.array([[a, 6, b]]),
        "candidate_count": np.array([2], np.int32),
    }


def test_work_is_counted_by_distinct_behaviours_and_every_candidate():
    toy = make_toy()
    request = one_request(toy)
    work = projection_work(toy.model, toy.item_ids[2:], request)
    rows = {"live_rows": 3 + 2, "kept_rows": 1 + 2}
    flops = {"live_flops": 5 * A_ROW + FOLDING, "kept_flops": 3 * A_ROW + FOLDING}
    assert work == ProjectionWork(lookups=7, known=4, **rows, **flops)
    assert work.coverage == 4 / 7
    assert work.saved_rows == pytest.approx(2 / 5)
    assert work.saved_flops == pytest.approx(2 * A_ROW / (5 * A_ROW + FOLDING))
    twice = {name: np.concatenate([value, value]) for name, value in request.items()}
    assert projection_work(toy.model, toy.item_ids[2:], twice) == work + work


def test_what_the_search_does_not_look_at_needs_no_projection():
    toy = make_toy(search="din", top_k=2)
    work = projection_work(toy.model, toy.item_ids[2:], one_request(toy))
    assert (work.lookups, work.known, work.live_rows, work.kept_rows) == (4, 1, 3, 3)
    assert work.saved_rows == 0


def test_a_metric_without_the_split_saves_nothing():
    toy = make_toy(relevance="raw")
    work = projection_work(toy.model, toy.item_ids[2:], one_request(toy))
    assert work.coverage == 4 / 7
    assert work.saved_rows == work.saved_flops == 0


def test_of_a_large_cross_table_the_rows_in_sight_are_folded(monkeypatch):
    toy = make_toy()
    monkeypatch.setattr(embeddings, "LARGEST_WHOLE_TABLE", 6)
    work = projection_work(toy.model, toy.item_ids[2:], one_request(toy))
    assert work.kept_flops == 3 * A_ROW + HEADS * (3 * 3 + 6 * 5 + 9 * 2)


def test_no_request_needs_no_projection():
    assert np.isnan(ProjectionWork().coverage)
    assert ProjectionWork().saved_rows == ProjectionWork().saved_flops == 0


@pytest.mark.parametrize("table", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def test_the_loss_by_rounding_is_the_share_of_true_retrieved_that_are_missed(table):
    toy = make_toy(items=500, videos=500, top_k=30, history_length=300)
    request = make_requests(toy, users=40, columns=200, candidates=5)
    request["candidate_count"][:3] = [0, 1, 2]
    servable = Servable(toy.model, toy.schema, toy.item_ids, 1, 1, table)
    loss, change = rounding_loss(toy.model, servable, request)
    batch = as_trained(toy, request)
    exact = toy.model.score(batch)
    rounded = toy.model.score(batch, tf.convert_to_tensor(servable.projection.table))
    difference = np.abs(tf.sigmoid(exact.logit).numpy() - tf.sigmoid(rounded.logit).numpy())
    true, found = (
        [[set(p[v].tolist()) for p, v in zip(places, valid, strict=True)] for places, valid in zip(*one, strict=True)]
        for one in ([part.numpy() for part in scores.long_term.retrieved] for scores in (exact, rounded))
    )
    pairs = [(user, place) for user, count in enumerate(request["candidate_count"]) for place in range(count)]
    missed = sum(len(true[user][place] - found[user][place]) for user, place in pairs)
    assert loss == pytest.approx(missed / sum(len(true[user][place]) for user, place in pairs), abs=1e-6)
    assert change == pytest.approx(max(difference[pair] for pair in pairs), abs=1e-6)
    assert change > 0
    if table == "bfloat16":
        assert 0 < loss < 0.1


def test_a_float32_table_loses_nothing():
    toy = make_toy()
    servable = Servable(toy.model, toy.schema, toy.item_ids, 1, 1)
    assert rounding_loss(toy.model, servable, make_requests(toy)) == (0.0, 0.0)
