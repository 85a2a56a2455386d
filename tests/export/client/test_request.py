import numpy as np
import pytest

from export.client.request import ClickRequest, normalise
from tests.twin_tf.toy import make_schema

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
    ],
)
def test_a_wrong_request_is_one_sentence_and_nothing_is_sent(change, sentence):
    request = {name: value for name, value in {**ONE, **change}.items() if value is not None}
    with pytest.raises(ValueError, match=sentence):
        normalise(request)
