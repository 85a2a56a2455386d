"""`make test-faults`: what may never fail while a server swaps, dies, or finds a corrupt version. Nothing is timed."""

import pytest

from benchmarks.serving_faults import corrupt_newest, hot_swaps, one_of_two_killed

pytestmark = [pytest.mark.integration, pytest.mark.faults]
RATE = 20


def by_name(figures):
    return {figure.name: figure.value for figure in figures}


def test_a_hundred_hot_swaps_fail_no_request_and_keep_no_memory(toys):
    found = by_name(hot_swaps(toys / "good", RATE, 100, steady_seconds=2))
    assert found["swaps"] == 100
    assert found["swap_failures"] == 0
    assert found["rss_ratio_100_swaps"] <= 1.2


def test_one_of_two_servers_killed_fails_at_most_one_request_in_a_thousand(toys):
    found = by_name(one_of_two_killed(toys / "good", 50, steady_seconds=10))
    assert found["success_one_of_two_killed"] >= 99.9


def test_a_corrupt_newest_version_changes_nothing(toys):
    found = by_name(corrupt_newest(toys / "good", RATE))
    assert found["corrupt_failures"] == 0
    assert found["corrupt_old_serves_on"] == 1
