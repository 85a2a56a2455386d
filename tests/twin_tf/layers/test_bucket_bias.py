"""Visible columns and piecewise constant rows, against loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin_tf.core.keras_api import tf
from twin_tf.layers.bucket_bias import age_boundaries, broadcast_bias, cumulative_one_hot, lookup_bias, merge_steps
from twin_tf.layers.visibility import CELL, visibility_of
from twin_tf.records.batch import History, Targets

SPREAD = tf.function(
    broadcast_bias,
    input_signature=[tf.TensorSpec([None] * 4), tf.TensorSpec([None] * 3, tf.int32), tf.TensorSpec([], tf.int32)],
)


def spread_in_a_loop(values, ends, width):
    result = np.zeros((*values.shape[:3], width), np.float32)
    for head, user, target in np.ndindex(values.shape[:3]):
        for column in range(width):
            step = sum(end <= column for end in ends[user, target])
            result[head, user, target, column] = values[head, user, target, step]
    return result


def check_spread(values, ends, width):
    found = SPREAD(values.astype(np.float32).transpose(1, 2, 0, 3), ends.astype(np.int32), width)
    np.testing.assert_array_equal(found, spread_in_a_loop(values, ends, width))


@settings(max_examples=60, deadline=None)
@given(data=st.data(), heads=st.integers(1, 3), users=st.integers(1, 2), targets=st.integers(1, 3))
def test_rows_hold_each_value_between_its_cuts(data, heads, users, targets):
    width = CELL * data.draw(st.integers(1, 4))
    cuts = data.draw(st.integers(1, 7))
    drawn = st.lists(st.integers(0, width), min_size=cuts, max_size=cuts)
    ends = np.array([[sorted(data.draw(drawn)) for _ in range(targets)] for _ in range(users)])
    values = np.random.default_rng(cuts).normal(size=(heads, users, targets, cuts + 1))
    check_spread(values, ends, width)


@pytest.mark.parametrize(
    "ends",
    [
        [0, 0, 0],
        [48, 48, 48],
        [0, 48, 48],
        [17, 19, 30],  # three cuts in one cell
        [20, 20, 20],
        [15, 16, 17],
        [16, 32, 48],
        [0, 16, 16],
        [47, 48, 48],
    ],
)
def test_cuts_may_coincide_share_a_cell_and_lie_at_the_borders(ends):
    values = np.arange(8.0).reshape(2, 1, 1, 4)
    check_spread(values, np.array(ends)[None, None], 3 * CELL)


def test_targets_do_not_see_each_others_cuts():
    values = np.arange(24.0).reshape(1, 2, 4, 3)
    ends = np.array([[[0, 5], [5, 5], [16, 31], [32, 32]], [[32, 32], [0, 0], [1, 2], [15, 16]]])
    check_spread(values, ends, 2 * CELL)


@settings(max_examples=60, deadline=None)
@given(
    times=st.lists(st.integers(-50, 50), min_size=1, max_size=20),
    timestamps=st.lists(st.integers(-60, 60), min_size=1, max_size=3),
    boundaries=st.lists(st.integers(-5, 90), min_size=1, max_size=5),
)
def test_a_cut_is_the_first_column_of_that_age_and_columns_count_the_cuts_passed(times, timestamps, boundaries):
    times, boundaries = sorted(times, reverse=True), sorted(boundaries)
    cuts = age_boundaries(tf.constant([times], tf.int64), tf.constant([timestamps], tf.int64), boundaries)
    assert cuts.dtype == tf.int32
    for target, request_time in enumerate(timestamps):
        ages = [request_time - time for time in times]
        wanted = [sum(age < boundary for age in ages) for boundary in boundaries]
        assert cuts[0, target].numpy().tolist() == wanted
    columns = tf.tile(tf.range(len(times))[None, None], [1, len(timestamps), 1])
    numbers = tf.range(len(boundaries) + 1, dtype=tf.float32)[None, None, None]
    mass_per_bucket = lookup_bias(numbers, cumulative_one_hot(cuts, columns)).numpy()
    assert mass_per_bucket.shape == (1, len(timestamps), 1, len(times))
    for (_, target, _, column), number in np.ndenumerate(mass_per_bucket):
        assert number == sum(timestamps[target] - times[column] >= boundary for boundary in boundaries)


def test_the_ages_of_the_longest_possible_times_do_not_overflow():
    times, day = [2**62, 2**62 - 86_400, 0, -(2**61)], 86_400
    cuts = age_boundaries(tf.constant([times], tf.int64), tf.constant([[2**62 + 5, 0]], tf.int64), [0, 6, day])
    assert cuts.numpy().tolist() == [[[0, 1, 1], [2, 3, 3]]]


def test_several_features_cuts_are_one_rising_list():
    ends, starts = merge_steps([tf.constant([[[3, 9]]]), tf.constant([[[0, 3, 16]]])])
    assert ends.numpy().tolist() == [[[0, 3, 3, 9, 16]]]
    assert starts.numpy().tolist() == [[[0, 0, 3, 3, 9, 16]]]


def test_cuts_shared_by_all_targets_merge_with_those_of_each():
    ends, starts = merge_steps([tf.constant([[[3]]]), tf.constant([[[0], [5]]])])
    assert ends.numpy().tolist() == [[[0, 3], [3, 5]]]
    assert starts.numpy().tolist() == [[[0, 0, 3], [0, 3, 5]]]


def looking_back(length, end, count, columns):
    shape = (len(length), columns)
    items, length = tf.zeros(shape, tf.int32), tf.constant(length, tf.int32)
    history = History(items, tf.zeros(shape, tf.int64), {}, length, tf.ones_like(items))
    end = tf.constant(end, tf.int32)
    return history, Targets(tf.zeros_like(end), tf.zeros_like(end), end, {}, tf.constant(count, tf.int32))


@settings(max_examples=80, deadline=None)
@given(data=st.data(), users=st.integers(1, 3), targets=st.integers(1, 3), window=st.integers(1, 40))
def test_every_real_target_sees_its_latest_behaviours_and_nothing_else(data, users, targets, window):
    columns = data.draw(st.integers(1, 45))
    length = [data.draw(st.integers(0, columns)) for _ in range(users)]
    count = [data.draw(st.integers(0, targets)) for _ in range(users)]
    anything = st.integers(-3, 60)
    end = [[data.draw(anything) for _ in range(targets)] for _ in range(users)]
    history, shown = looking_back(length, end, count, columns)
    visibility = visibility_of(history, shown, window)
    padded = visibility.position.shape[1]
    assert padded % CELL == 0
    assert int(tf.reduce_min(visibility.position)) >= 0 and int(tf.reduce_max(visibility.position)) < columns
    for user in range(users):
        for target in range(targets):
            first, stop = int(visibility.first[user, target]), int(visibility.stop[user, target])
            assert 0 <= first <= stop <= padded
            real_end = min(max(end[user][target], 0), length[user])
            if target < count[user]:
                seen = visibility.position[user, first:stop].numpy().tolist()
                assert seen == list(range(real_end - 1, max(real_end - window, 0) - 1, -1))
                assert stop <= int(visibility.width)


def test_no_column_is_older_than_the_oldest_targets_window():
    history, shown = looking_back([100, 60], [[100, 90], [60, 55]], [2, 2], 100)
    assert int(visibility_of(history, shown, 20).width) == 30
    assert int(visibility_of(history, shown, 1000).width) == 100
    history, shown = looking_back([100], [[100, 0]], [1], 100)  # the second is padding
    assert int(visibility_of(history, shown, 20).width) == 20


def test_users_without_any_target_see_nothing():
    history, shown = looking_back([9, 4], np.zeros((2, 0)), [0, 0], 9)
    visibility = visibility_of(history, shown, 5)
    assert visibility.first.shape == visibility.stop.shape == (2, 0)
    assert visibility.latest.numpy().tolist() == [0, 0]
    assert not visibility.position.numpy().any()
