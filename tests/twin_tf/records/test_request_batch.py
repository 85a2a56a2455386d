"""A request as a batch: wrong values are put right and counted, and what is right stays as it is."""

import numpy as np
import pytest

from tests.twin_tf.toy import make_schema
from twin_tf.core.keras_api import tf
from twin_tf.features.schema import LONGEST_HISTORY, schema_from_mapping
from twin_tf.records.request_batch import FARTHEST_TIME, as_served, request_batch

FARTHEST = np.iinfo(np.int64)
ROWS = {"history_play_time": 7, "user_sex": 4, "context_page": 6}


def make_request(**changes):
    """Two users with four and two behaviours; what is padding holds nonsense."""
    request = {
        "history_item": [[11, 12, 13, 14], [11, 12, 0, 0]],
        "history_time": [[10, 20, 20, 30], [10, 20, FARTHEST.max, -5]],
        "history_play_time": [[0, 1, 2, 6], [3, 4, -1, 99]],
        "history_count": [[1, 2, 3, 4], [1, LONGEST_HISTORY, 0, -1]],
        "history_length": [4, 2],
        "request_time": [100, 15],
        "candidate_item": [[11, 12, 13], [14, 99, 99]],
        "candidate_count": [3, 1],
        "user_sex": [0, 3],
        "context_page": [5, 2],
    }
    wide = ("history_item", "history_time", "request_time", "candidate_item")
    return {n: np.array(changes.get(n, v), np.int64 if n in wide else np.int32) for n, v in request.items()}


def with_candidates(schema):
    """The schema with a candidate feature that requests carry, and one that they do not."""
    plain = schema.to_plain()
    encoding = {"kind": "identity", "size": 5}
    plain["features"] += [{"name": "offer", "role": "candidate", "encoding": encoding}]
    plain["features"] += [{"name": "rank", "role": "candidate", "encoding": encoding, "serve_as": 2}]
    return schema_from_mapping(plain)


def batch_of(request, rows=ROWS, schema=None, counted=lambda rows: {}):
    """In a graph, as it is served."""
    schema = schema or make_schema(clustered=True)

    @tf.function
    def convert(**inputs):
        return request_batch(inputs, schema, lambda ids: tf.where(ids < 90, tf.cast(ids, tf.int32), 1), rows, counted)

    return convert(**{name: tf.constant(value) for name, value in request.items()})


def test_a_sound_request_stays_as_it_is_whatever_its_padding_holds():
    request = make_request()
    batch, counts = batch_of(request)
    assert counts["adjusted"].numpy().tolist() == [0, 0]
    assert counts["unknown_items"].numpy().tolist() == [0, 0]
    assert batch.targets.end.numpy().tolist() == [[4], [1]]
    np.testing.assert_array_equal(batch.history.time[0], request["history_time"][0])
    np.testing.assert_array_equal(batch.history.cross["play_time"][:, :2], request["history_play_time"][:, :2])
    np.testing.assert_array_equal(batch.history.count[:, :2], request["history_count"][:, :2])
    np.testing.assert_array_equal(batch.user["sex"], request["user_sex"])


@pytest.mark.parametrize(
    ("changes", "adjusted"),
    [
        ({"history_length": [9, 2]}, [1, 0]),
        ({"history_length": [4, -3]}, [0, 1]),
        ({"candidate_count": [-1, 7]}, [1, 1]),
        ({"history_play_time": [[-1, 7, 2, 1 << 30], [3, 4, -1, 99]]}, [3, 0]),
        ({"history_count": [[0, 2, -3, 4], [1, LONGEST_HISTORY + 1, 0, -1]]}, [2, 1]),
        ({"user_sex": [-1, 4], "context_page": [5, 6]}, [1, 2]),
        ({"history_time": [[10, 40, 20, 30], [10, 20, FARTHEST.max, -5]]}, [2, 0]),
        ({"history_time": [[40, 30, 20, 10], [20, 10, 0, 0]]}, [3, 1]),
        ({"history_time": [[FARTHEST.min, 20, 20, FARTHEST.max], [10, 20, 0, 0]]}, [2, 0]),
        ({"request_time": [FARTHEST.max, FARTHEST.min]}, [1, 1]),
    ],
)
def test_wrong_values_are_counted_for_their_user(changes, adjusted):
    batch, counts = batch_of(make_request(**changes))
    assert counts["adjusted"].numpy().tolist() == adjusted
    assert counts["adjusted"].dtype == tf.int32
    assert np.abs(batch.history.time).max() <= FARTHEST_TIME
    assert np.abs(batch.targets.time).max() <= FARTHEST_TIME


def test_wrong_values_become_the_nearest_or_unknown():
    batch, _ = batch_of(
        make_request(
            history_time=[[10, 40, 20, 30], [10, 20, 0, 0]],
            history_play_time=[[-1, 7, 2, 6], [3, 4, 0, 0]],
            history_count=[[0, 2, 3, LONGEST_HISTORY + 1], [1, 1, 1, 1]],
            history_length=[9, -1],
            candidate_count=[9, -1],
            user_sex=[4, -7],
        )
    )
    assert batch.history.time[0].numpy().tolist() == [10, 40, 40, 40]
    assert batch.history.cross["play_time"][0].numpy().tolist() == [1, 1, 2, 6]
    assert batch.history.count[0].numpy().tolist() == [1, 2, 3, LONGEST_HISTORY]
    assert batch.history.length.numpy().tolist() == [4, 0]
    assert batch.targets.count.numpy().tolist() == [3, 0]
    assert batch.user["sex"].numpy().tolist() == [1, 1]


@pytest.mark.parametrize("width", [1, 2, 3, 8, 100])
def test_times_that_fall_are_raised_to_the_latest_before(width):
    times = np.random.default_rng(width).integers(0, 1000, (3, width))
    request = {name: value[:1].repeat(3, axis=0) for name, value in make_request().items()}
    for name in ("history_item", "history_play_time", "history_count"):
        request[name] = np.ones((3, width), request[name].dtype)
    request |= {"history_time": times, "history_length": np.array([width] * 3, np.int32)}
    batch, counts = batch_of(request)
    wanted = np.maximum.accumulate(times, axis=1)
    np.testing.assert_array_equal(batch.history.time, wanted)
    np.testing.assert_array_equal(counts["adjusted"], (times != wanted).sum(axis=1))


def test_candidate_features_are_asked_for_or_served_as_one_value():
    schema, rows = with_candidates(make_schema(clustered=True)), ROWS | {"candidate_offer": 7}
    request = make_request() | {"candidate_offer": np.array([[0, 6, 7], [3, -1, 99]], np.int32)}
    batch, counts = batch_of(request, rows, schema)
    assert counts["adjusted"].numpy().tolist() == [1, 0]
    assert batch.targets.context["offer"].numpy().tolist() == [[0, 6, 1], [3, 1, 1]]
    assert batch.targets.context["rank"].numpy().tolist() == [[4]]
    assert batch.targets.context["page"].numpy().tolist() == [[5], [2]]
    logged = batch._replace(targets=batch.targets._replace(context={**batch.targets.context, "rank": tf.ones([2, 3])}))
    assert as_served(logged, schema).targets.context["rank"].numpy().tolist() == [[4]]
    assert as_served(logged, make_schema(clustered=True)).targets.context["rank"].shape == [2, 3]


def test_what_is_counted_of_items_is_the_catalogue_s_where_it_is_left_out():
    schema, rows = with_candidates(make_schema(clustered=True)), ROWS | {"candidate_offer": 7}
    request = make_request() | {"candidate_offer": np.array([[0, 6, 7], [0, 0, 3]], np.int32)}
    batch, counts = batch_of(request, rows, schema, lambda rows: {"offer": 100 + rows})
    assert batch.targets.context["offer"].numpy().tolist() == [[111, 6, 1], [114, 101, 3]]
    assert counts["adjusted"].numpy().tolist() == [1, 0]
