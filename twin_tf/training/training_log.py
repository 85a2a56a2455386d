"""What TensorBoard shows of a run."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twin_tf.core.keras_api import tf

VALID = ("auc", "gauc", "logloss", "calibration")


class TrainingLog:
    """Scalars by step; losses and speeds are means since the last call of `training`.

    Args:
        directory: of the event files; a resumed run adds one, whose steps repeat the other's with equal values.
    """

    def __init__(self, directory: Path) -> None:
        self._writer = tf.summary.create_file_writer(str(directory))
        self._targets = 0
        self._waited: float | None = None
        self._since = time.monotonic()

    def count(self, targets: int) -> None:
        """Notes what a step has learned from."""
        self._targets += targets

    def wait(self, seconds: float) -> None:
        """Notes time spent waiting for the input."""
        self._waited = (self._waited or 0.0) + seconds

    def training(self, step: int, loss: float, rates: Mapping[str, float]) -> None:
        """Writes loss, rates, examples a second, and the share of the time that the input was waited for, if known.

        Args:
            step: steps done.
            loss: mean since the last call.
            rates: learning rates by whose they are.
        """
        seconds = max(time.monotonic() - self._since, 1e-9)
        figures = {
            "loss": loss,
            **{f"learning_rate/{name}": rate for name, rate in rates.items()},
            "examples_per_s": self._targets / seconds,
        }
        if self._waited is not None:
            figures["input_bound_share"] = min(self._waited / seconds, 1.0)
        self.scalars(step, figures)
        self.restart()

    def restart(self) -> None:
        """Begins a new stretch of time, so that an evaluation does not count as training."""
        self._targets, self._waited, self._since = 0, None, time.monotonic()

    def validation(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Writes the metrics of the valid split; those that mean nothing are left out."""
        self.scalars(step, {f"valid/{name}": metrics[name] for name in VALID if metrics[name] is not None})

    def tables(self, step: int, tables: Mapping[str, Mapping[str, float | None]]) -> None:
        """Writes how far each embedding table has moved and what it is worth, see `table_movement`."""
        for name, figures in tables.items():
            self.scalars(step, {f"tables/{name}/{key}": value for key, value in figures.items() if value is not None})

    def scalars(self, step: int, figures: Mapping[str, float]) -> None:
        """Writes figures by name."""
        with self._writer.as_default():
            for name, value in figures.items():
                tf.summary.scalar(name, value, step=step)

    def flush(self) -> None:
        """What has been written outlives this process."""
        self._writer.flush()
