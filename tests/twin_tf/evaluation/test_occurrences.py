"""Counts and latest positions in a history beside a plain loop."""

import numpy as np
import pytest

from twin_tf.evaluation.occurrences import Occurrences


def test_a_cluster_counts_as_the_behaviours_it_stands_for():
    found = Occurrences(np.array([3, 4, 3]), np.array([2, 1, 5]))
    starts, ends = np.array([0, 0, 1, 0, 0]), np.array([3, 1, 3, 2, 3])
    assert found.count(np.array([3, 3, 3, 4, 9]), starts, ends).tolist() == [7, 2, 5, 1, 0]


@pytest.mark.parametrize("length", [0, 1, 50])
def test_counts_and_latest_positions_equal_a_plain_loop(length):
    rng = np.random.default_rng(length)
    history, wanted = rng.integers(0, 6, length), rng.integers(0, 8, 40)
    ends = rng.integers(0, length + 1, 40)
    starts = np.minimum(rng.integers(0, length + 1, 40), ends)
    found = Occurrences(history, np.ones(length, np.int64))
    places = [np.flatnonzero(history[:end] == one) for one, end in zip(wanted, ends, strict=True)]
    assert found.count(wanted, starts, ends).tolist() == [
        int((place >= start).sum()) for place, start in zip(places, starts, strict=True)
    ]
    assert found.last(wanted, ends).tolist() == [int(place[-1]) if len(place) else -1 for place in places]
