"""What a row learns from its user does not depend on who else is in the batch: the gradient of tables is a sum."""

import functools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.patience import PATIENCE_S
from twin_tf.training_settings import TrainingConfig

pytestmark = pytest.mark.integration

COMPANY = Path(__file__).parents[1] / "company.py"
TABLES = {
    *("video0", "author0", "video1", "author1", "play_time0", "age0", "weekday0", "sex0", "page0", "hour0"),
    *("video2", "author2", "video3", "author3", "play_time1", "age1", "weekday1", "sex1", "page1", "hour1"),
}
"""Of the twin (0; 1: the second table of DARE) and of its auxiliary twin (2 and 3; 1 where it has one table)."""


@functools.cache
def updates(strategy: str, form: str) -> dict[str, dict[str, np.ndarray]]:
    """Batch -> table -> float `(rows, dim)`, by a process of its own."""
    done = subprocess.run(
        [sys.executable, str(COMPANY), strategy, form],
        env={"PYTHONPATH": ".", "TF_CPP_MIN_LOG_LEVEL": "3", "PATH": "", "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    return {company: {name: np.array(rows) for name, rows in one.items()} for company, one in found.items()}


def of_a_alone(found: dict[str, dict[str, np.ndarray]], company: str) -> dict[str, np.ndarray]:
    """Table -> relative change, by company, of the updates of the rows that A reads and the others do not.

    What the rounding of two sums to float32 may differ by does not count.
    """
    changes = {}
    for name, alone in found["alone"].items():
        only_a = (alone != 0).any(axis=1) & (found["others"][name] == 0).all(axis=1)
        if only_a.any():
            rounding = np.spacing(np.abs(found["start"][name]).astype(np.float32))
            change = np.maximum(np.abs(found[company][name] - alone) - rounding, 0)
            changes[name] = np.linalg.norm(change, axis=1)[only_a] / np.linalg.norm(alone, axis=1)[only_a]
    return changes


@pytest.mark.parametrize("strategy", ["single", "mirrored", "parameter_server"])
def test_company_changes_no_update_of_another_users_rows(strategy):
    found = updates(strategy, "sum")
    assert set(found["alone"]) == TABLES
    changes = of_a_alone(found, "together")
    assert {"video0", "video1", "video2", "video3", "play_time0", "play_time1", "sex0", "page0"} <= set(changes)
    for name, change in changes.items():
        assert change.max() < 1e-5, name


def test_company_shrinks_the_updates_of_a_mean():
    for name, change in of_a_alone(updates("single", "mean"), "together").items():
        assert change.min() > 0.5, name  # an eighth of the targets, so about an eighth of the update is left


@pytest.mark.parametrize("strategy", ["single", "mirrored", "parameter_server"])
def test_a_row_read_twice_is_summed_before_it_is_squared(strategy):
    found, rate = updates(strategy, "sum"), TrainingConfig().embedding_learning_rate
    for name, alone in found["alone"].items():
        share = alone / rate  # g / sqrt(.1 + g^2), AdaGrad's first update
        gradient = share * np.sqrt(0.1 / (1 - share**2))
        twice = rate * 2 * gradient / np.sqrt(0.1 + (2 * gradient) ** 2)
        np.testing.assert_allclose(found["twice"][name], twice, rtol=1e-4, atol=1e-7, err_msg=name)
        if name == "video0":  # squared apart, it would be another update
            apart = rate * 2 * gradient / np.sqrt(0.1 + 2 * gradient**2)
            assert np.abs(apart - twice).max() > 1e-2 * rate
