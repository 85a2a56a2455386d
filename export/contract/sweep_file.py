"""The sweep of a model directory, which `saved_model.sweep` writes: requests that reach every table. No TensorFlow.

Probes are real requests and may leave a whole table out. The sweep takes values of every feature and items of every
vocabulary in turn, with what the trainer says to them.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from export.contract.probe_file import Probes, read_arrays
from export.contract.tensors import Array

SWEEP_FILE = "assets.extra/sweep.npz"
VALUES = 64
"""Rows of a table that the sweep takes at most, spread over it."""


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What a model answers beside its probes.

    Attributes:
        requests: inputs of `serving_default` and what is expected of them: `probability` and `position`.
        items: int64 `(n,)`, raw ids.
        projections: float32 `(n, width)`, what `item_projection` says of them.
        users: int64 `(probes,)`, which user each probe is of, counted from 0; empty if nobody knows.
    """

    requests: Probes
    items: Array
    projections: Array
    users: Array


def sampled(rows: int) -> Array:
    """int64: at most `VALUES` rows of a table, spread over it, the first and the last among them."""
    return np.unique(np.linspace(0, rows - 1, min(rows, VALUES)).astype(np.int64))


def save_sweep(model: str | Path, sweep: Sweep) -> None:
    """Writes the sweep of a model directory."""
    arrays: dict[str, Array] = {f"input/{name}": value for name, value in sweep.requests.inputs.items()}
    arrays |= {f"expected/{name}": value for name, value in sweep.requests.expected.items()}
    arrays |= {"items": sweep.items, "projections": sweep.projections, "users": sweep.users}
    np.savez_compressed(Path(model) / SWEEP_FILE, allow_pickle=False, **arrays)


def load_sweep(model: str | Path) -> Sweep | None:
    """Reads the sweep of a model directory; None if it was exported before there were any.

    Raises:
        ValueError: the file is damaged.
    """
    path = Path(model) / SWEEP_FILE
    if not path.is_file():
        return None
    arrays = read_arrays(path)
    sides: dict[str, Mapping[str, Array]] = {
        side: {name.removeprefix(side): array for name, array in arrays.items() if name.startswith(side)}
        for side in ("input/", "expected/")
    }
    requests = Probes(sides["input/"], sides["expected/"])
    return Sweep(requests, arrays["items"], arrays["projections"], arrays["users"])
