"""The open-loop load: latency counts from the intended moment, whatever the server does."""

import numpy as np
import pytest

from benchmarks.load_generator import LoadResult
from benchmarks.serving_faults import recovery


def result(latency, code=None):
    count = len(latency)
    return LoadResult(
        intended=np.arange(count) * 0.1,
        latency=np.array(latency, float),
        code=np.zeros(count, np.int32) if code is None else np.array(code, np.int32),
        version=np.ones(count, np.int64),
        sent_late=np.zeros(count),
    )


def test_failures_success_and_exact_percentiles(tmp_path):
    found = result([0.001] * 98 + [0.5, 9.0], [0] * 99 + [14])
    assert found.failures == 1
    assert found.success == pytest.approx(99.0)
    assert found.percentile_ms(50) == pytest.approx(1.0)
    assert found.percentile_ms(100) == pytest.approx(500.0)  # the failed one took 9 s, but answered nothing
    found.save(tmp_path / "load.npz")
    assert LoadResult.load(tmp_path / "load.npz").latency.tolist() == found.latency.tolist()


def test_parts_are_cut_by_intended_moments():
    found = result(np.arange(10))
    assert found.part([(0.15, 0.35), (0.75, 9)]).latency.tolist() == [2, 3, 8, 9]
    assert found.part([(0.15, 0.75)], inside=False).latency.tolist() == [0, 1, 8, 9]


def test_recovery_is_the_end_of_the_bad_spell_behind_the_fault():
    steady = [0.01] * 50
    assert recovery(result([*steady, *steady]), 5.0) == 0.0
    failed = [14] * 12 + [0] * 38
    assert recovery(result([*steady, *steady], [0] * 50 + failed), 5.0) == pytest.approx(1.25)
    late = [0.01] * 40 + [0.5] + [0.01] * 9
    assert recovery(result([*steady, *([1.0] * 5), *late]), 5.0) == pytest.approx(0.5)
