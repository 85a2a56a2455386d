"""The probes of a model directory, which `saved_model.probes` writes. No TensorFlow."""

import dataclasses
import io
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from export.contract.tensors import Array
from twin_tf.features.request_names import (
    CANDIDATE_COUNT,
    CANDIDATE_ITEM,
    HISTORY_LENGTH,
    REQUEST_TIME,
    of_candidates,
    of_history,
)

PROBES_FILE = "assets.extra/probes.npz"
_ROWS_A_CALL = 16
_DAMAGED = (
    *(ValueError, EOFError, KeyError, TypeError, OverflowError, MemoryError, SyntaxError, tokenize.TokenError),
    *(RuntimeError, zipfile.BadZipFile, zlib.error, struct.error, OSError),
)
"""What zipfile and NumPy raise of a file with other bytes: encrypted, of a method that they lack, of a wrong header."""


@dataclasses.dataclass(frozen=True)
class Probes:
    """Requests with what is expected of them.

    Attributes:
        inputs: `(probes, ...)` by input name of serving_default.
        expected: `probability` `(probes, C)`; where they are known, `position` `(probes, C, K)` and `label`
            `(probes, C)`.
    """

    inputs: Mapping[str, Array]
    expected: Mapping[str, Array]

    @property
    def real(self) -> Array:
        """Bool `(probes, C)`: which candidates are more than padding."""
        width = self.inputs[CANDIDATE_ITEM].shape[1]
        return np.asarray(np.arange(width) < self.inputs[CANDIDATE_COUNT][:, np.newaxis])


def load_probe_file(model: str | Path) -> Probes:
    """Reads the probes of a model directory.

    Raises:
        FileNotFoundError: it has none.
        ValueError: the file is damaged.
    """
    arrays = read_arrays(Path(model) / PROBES_FILE)
    sides: dict[str, dict[str, Array]] = {"input": {}, "expected": {}}
    for name, array in arrays.items():
        side, _, rest = name.partition("/")
        sides.setdefault(side, {})[rest] = array
    return Probes(sides["input"], sides["expected"])


def read_arrays(path: Path) -> dict[str, Array]:
    """The arrays of an `.npz` file by name.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is damaged.
    """
    with path.open("rb") as content:
        try:
            with zipfile.ZipFile(content) as archive:
                names = archive.namelist()
                members = {name: io.BytesIO(archive.read(name)) for name in names}
            return {
                name.removesuffix(".npy"): np.lib.format.read_array(member, allow_pickle=False)
                for name, member in members.items()
            }
        except _DAMAGED as error:
            raise ValueError(f"{path} is damaged: {str(error).splitlines()[0] if str(error) else error!r}") from error


def batches(probes: Probes) -> Iterator[tuple[slice, dict[str, Array]]]:
    """Which probes, and their requests as one, cut to the longest history and the most candidates among them."""
    total = len(probes.inputs[REQUEST_TIME])
    for start in range(0, total, _ROWS_A_CALL):
        rows = slice(start, min(start + _ROWS_A_CALL, total))
        yield rows, _trimmed({name: array[rows] for name, array in probes.inputs.items()})


def _trimmed(batch: dict[str, Array]) -> dict[str, Array]:
    """Cuts a batch to its longest history and its most candidates, as a client would send it."""
    length = max(1, int(batch[HISTORY_LENGTH].max()))
    count = max(1, int(batch[CANDIDATE_COUNT].max()))
    widths = {name: length for name, a in batch.items() if of_history(name) and a.ndim == 2}
    widths |= {name: count for name, a in batch.items() if of_candidates(name) and a.ndim == 2}
    return {name: array[:, : widths[name]] if name in widths else array for name, array in batch.items()}
