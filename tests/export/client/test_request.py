import dataclasses
import warnings

import numpy as np
import pytest

from export.client.request import ClickRequest, normalise
from export.client.request_values import UnseenBehavioursWarning, behaviours_seen
from tests.twin_tf.toy import make_schema

NULL = np.iinfo(np.int64).min
ONE = {"history_item": [5, 6], "history_time": [1, 2], "request_time": 9, "candidate_item": [7, 8, 9]}


def test_one_user_gains_the_batch_dimension_and_full_counts():
    arrays = normalise({**ONE, "history_price": [2, 3], "user_segment": 4, "context_page": 1})
    described = {name: (array.dtype.name, array.tolist()) for name, array in arrays.items()}
    assert described == {
        "history_item": ("int64", [[5, 6]]),
        "history_time": ("int64", [[1, 2]]),
        "request_time": ("int64", [9]),
        "candidate_item": ("int64", [[7, 8, 9]]),
        "history_length": ("int32", [2]),
        "candidate_count": ("int32", [3]),
        "history_price": ("int32", [[2, 3]]),
        "user_segment": ("int32", [4]),
        "context_page": ("int32", [1]),
    }


def test_the_dataclass_and_the_mapping_are_the_same_request():
    request = ClickRequest(**ONE, cross={"price": [2, 3]}, user={"segment": 4}, context={"page": 1})
    mapping = {**ONE, "history_price": [2, 3], "user_segment": 4, "context_page": 1}
    left, right = normalise(request), normalise(mapping)
    assert sorted(left) == sorted(right)
    for name in left:
        np.testing.assert_array_equal(left[name], right[name])


def test_candidate_features_have_a_value_for_each_candidate():
    request = ClickRequest(**ONE, candidate={"price": [2, 3, 4]})
    assert normalise(request)["candidate_price"].tolist() == [[2, 3, 4]]
    padded = normalise({**ONE, "candidate_price": [2, 3, -1], "candidate_count": 2})
    assert padded["candidate_price"].dtype == np.int32
    empty = normalise({**ONE, "history_item": [], "history_time": [], "candidate_price": [2, 3, 4]})
    assert empty["candidate_price"].tolist() == [[2, 3, 4]]
    with pytest.raises(ValueError, match="candidate_price has width 2, candidate_item 3; they describe the same cand"):
        normalise({**ONE, "candidate_price": [2, 3]})
    with pytest.raises(ValueError, match=r"candidate_price\[0, 2\] = -1 is negative"):
        normalise({**ONE, "candidate_price": [2, 3, -1]})


def test_a_model_of_clusters_takes_each_behaviour_for_one_unless_told_otherwise():
    schema = make_schema(clustered=True)
    assert normalise(ONE, schema)["history_count"].tolist() == [[1, 1]]
    told = ClickRequest(**ONE, history_count=[3, 1])
    assert normalise(told, schema)["history_count"].tolist() == [[3, 1]]
    assert "history_count" not in normalise(ONE, make_schema())


def test_an_empty_history_becomes_one_padded_position_of_length_0():
    arrays = normalise({**ONE, "history_item": [], "history_time": [], "history_price": []})
    assert arrays["history_item"].tolist() == [[0]]
    assert arrays["history_time"].tolist() == [[0]]
    assert arrays["history_price"].tolist() == [[0]]
    assert arrays["history_length"].tolist() == [0]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"history_item": None}, "the request lacks history_item"),
        ({"hystory_price": [1, 2]}, "unknown input 'hystory_price'"),
        ({"history_time": [1, 2, 3]}, "history_time has width 3, history_item 2; they describe the same behaviours"),
        ({"history_length": [3]}, r"history_length\[0\] = 3 exceeds history_item's width 2"),
        ({"history_length": [-1]}, r"history_length\[0\] = -1 is negative"),
        ({"candidate_count": 4}, r"candidate_count\[0\] = 4 exceeds candidate_item's width 3"),
        ({"candidate_item": []}, "candidate_item holds no candidate; send at least one"),
        ({"candidate_item": [1.5]}, "candidate_item must hold whole numbers .*, not float64"),
        ({"user_segment": [1, 2]}, "user_segment has 2 rows, candidate_item 1"),
        ({"user_segment": 2**40}, "user_segment holds values outside int32: 1099511627776 to 1099511627776"),
        ({"candidate_item": [[[1]]]}, r"candidate_item must have 2 dimensions \(or 1 for one user\), not 3"),
        (
            {"history_time": [2, 1]},
            r"history_time\[0, 1\] = 1 lies before the behaviour in front of it; send",
        ),
        ({"history_price": [2, -1]}, r"history_price\[0, 1\] = -1 is negative; indices are those of FeatureEncoder"),
        ({"user_segment": -3}, r"user_segment\[0\] = -3 is negative"),
        ({"context_page": -1}, r"context_page\[0\] = -1 is negative"),
        ({"history_count": [1, 0]}, r"history_count\[0, 1\] = 0 is no size of a cluster"),
        ({"history_item": [5, None]}, r"history_item\[1\] is missing \(None\); leave out the behaviour"),
        ({"candidate_item": [7, float("nan"), 9]}, r"candidate_item\[1\] is missing \(nan\)"),
        ({"candidate_item": ["tea", None]}, r"candidate_item\[1\] is missing \(None\)"),
        ({"history_item": [5, NULL]}, r"history_item\[0, 1\] = -9223372036854775808 is what a missing value becomes"),
        ({"history_time": [NULL, 2]}, r"history_time\[0, 0\] = -9223372036854775808 is what a missing value becomes"),
        ({"request_time": NULL}, r"request_time\[0\] = -9223372036854775808 is what a missing value becomes"),
    ],
)
def test_a_wrong_request_is_one_sentence_and_nothing_is_sent(change, sentence):
    request = {name: value for name, value in {**ONE, **change}.items() if value is not None}
    with pytest.raises(ValueError, match=sentence):
        normalise(request)


def test_what_padding_holds_is_nobodys_mistake():
    padded = {**ONE, "history_item": [5, NULL], "history_time": [1, -7], "history_price": [2, -1], "history_length": 1}
    assert normalise(padded)["history_length"].tolist() == [1]


def test_raw_ids_may_be_negative_but_no_hash_is():
    negative = {**ONE, "candidate_item": [-7]}
    assert normalise(negative, make_schema())["candidate_item"].tolist() == [[-7]]
    schema = make_schema()
    item = dataclasses.replace(schema.events.item, type="string")
    items = dataclasses.replace(schema.items, type="string")
    hashed = dataclasses.replace(schema, items=items, events=dataclasses.replace(schema.events, item=item))
    with pytest.raises(ValueError, match=r"candidate_item\[0, 0\] = -7 is negative, and hashed ids are not"):
        normalise(negative, hashed)


@pytest.mark.parametrize(("moment", "seen"), [(0, 0), (1, 0), (2, 1), (3, 2), (9, 2)])
def test_behaviours_after_the_request_are_counted_out_and_warned_of(moment, seen):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        arrays = normalise({**ONE, "request_time": moment})
    assert behaviours_seen(arrays).tolist() == [seen]
    assert [warning.category for warning in caught] == [UnseenBehavioursWarning] * (moment < 2)
    assert all("behaviours_seen" in str(warning.message) for warning in caught)


def test_of_a_long_history_the_latest_behaviours_are_sent():
    schema = make_schema()
    schema = dataclasses.replace(schema, history=dataclasses.replace(schema.history, max_length=3))
    times = np.array([[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 50, 60], [1, 2, 0, 0, 0, 0]])
    request = {
        "history_item": times + 100,
        "history_time": times,
        "history_price": times.astype(np.int32),
        "history_length": [6, 5, 2],
        "request_time": [10, 10, 10],
        "candidate_item": [[7]] * 3,
    }
    with pytest.warns(UnseenBehavioursWarning):
        arrays = normalise(request, schema)
    sent = [arrays["history_time"][user, : arrays["history_length"][user]].tolist() for user in range(3)]
    assert sent == [[4, 5, 6], [2, 3, 4], [1, 2]]  # the second user's fifth behaviour is not seen anyway
    assert arrays["history_time"].shape == arrays["history_price"].shape == (3, 3)
    np.testing.assert_array_equal(arrays["history_item"], arrays["history_time"] + 100)
    assert behaviours_seen(arrays).tolist() == [3, 3, 2]
    with pytest.warns(UnseenBehavioursWarning):
        assert normalise(request)["history_time"].shape == (3, 6)  # without a schema nobody knows how long is too long
