"""Rates of strictly earlier targets beside a plain loop; a target's own label and its moment never count."""

import numpy as np
import pytest

from twin_tf.evaluation.earlier_rates import PRIOR_TARGETS, combined_rate, earlier_rate, earlier_rates


def shown(count=400, seed=3):
    """User, item, time and label of targets with many ties in time, in no order."""
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, 12, count), rng.integers(0, 20, count)
    label = (rng.random(count) < 0.1 + 0.04 * item).astype(np.int8)
    return user, item, rng.integers(0, 60, count), label


def loop_rate(columns, which, number):
    """A smoothed rate by its definition."""
    *keys, time, label = columns

    def share(chosen, prior):
        return (sum(int(label[one]) for one in chosen) + PRIOR_TARGETS * prior) / (len(chosen) + PRIOR_TARGETS)

    earlier = [one for one in range(len(time)) if time[one] < time[number]]
    mine = [one for one in earlier if keys[which][one] == keys[which][number]]
    return share(mine, share(earlier, 0.5)), len(mine)


def test_rates_count_strictly_earlier_targets():
    keys, time, label = np.array([7, 7, 7, 7]), np.array([5, 5, 6, 6]), np.array([1, 0, 1, 1])
    rate, number = earlier_rate(keys, time, label, np.full(4, 0.3))
    third = (1 + 10 * 0.3) / 12  # the two of moment 5; the other one of moment 6 does not count
    assert rate.tolist() == pytest.approx([0.3, 0.3, third, third])
    assert number.tolist() == [0, 0, 2, 2]


def test_rates_equal_a_plain_loop_with_ties_in_time():
    columns = shown()
    found = earlier_rates(*columns)
    for which, (rate, number) in enumerate(((found.item, found.item_targets), (found.user, found.user_targets))):
        wanted = [loop_rate((columns[1], columns[0], *columns[2:]), which, one) for one in range(400)]
        np.testing.assert_allclose(rate, [one for one, _ in wanted])
        np.testing.assert_array_equal(number, [one for _, one in wanted])


def test_rates_do_not_depend_on_the_order_of_the_targets():
    columns, other = shown(), np.random.default_rng(1).permutation(400)
    found, turned = earlier_rates(*columns), earlier_rates(*(column[other] for column in columns))
    np.testing.assert_allclose(turned.item, found.item[other])
    np.testing.assert_allclose(turned.user, found.user[other])


def test_no_label_reaches_a_rate_at_or_before_its_own_moment():
    """Flips every label from a moment on: no rate up to that moment changes, and later ones do."""
    user, item, time, label = shown()
    before, after = (
        earlier_rates(user, item, time, label),
        earlier_rates(user, item, time, np.where(time >= 30, 1 - label, label)),
    )
    early = time <= 30
    np.testing.assert_array_equal(before.logits[early], after.logits[early])
    assert (before.logits[time > 31] != after.logits[time > 31]).any(axis=1).mean() > 0.9


def test_the_combination_is_fitted_on_training_targets_alone():
    user, item, time, label = shown()
    rates, train = earlier_rates(user, item, time, label), time < 40
    found = combined_rate(rates, label, train)
    np.testing.assert_array_equal(combined_rate(rates, np.where(train, label, 1 - label), train), found)
    assert combined_rate(rates, np.ones_like(label), train) is None


def test_no_targets_have_no_rates():
    empty = np.zeros(0, np.int64)
    assert len(earlier_rates(empty, empty, empty, empty).item) == 0
