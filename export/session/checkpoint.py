"""The variables of a model directory, read by TensorFlow's C++ library without a session and without its Python.

Example:
    >>> with Checkpoint("models/1700000000") as checkpoint:
    ...     ids = checkpoint.read("lookup/ids")
"""

from pathlib import Path
from types import TracebackType

import numpy as np

from export.contract.errors import NotFoundError
from export.contract.tensors import BFLOAT16, Array, dtype_number
from export.session.tensorflow_library import checked_status, library, read_tensor

_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
_FLOATS = {dtype_number(name) for name in ("float16", "float32", "float64")} | {BFLOAT16}
_BLOCK = 1 << 24


class Checkpoint:
    """The checkpoint in `variables/` of a model directory.

    Args:
        model_dir: the model directory.

    Attributes:
        names: the variables by the path of attributes that leads to them.

    Raises:
        ServingError: the checkpoint is missing or damaged.
    """

    def __init__(self, model_dir: str | Path) -> None:
        self._library = library()
        prefix = str(Path(model_dir) / "variables" / "variables")
        with checked_status() as status:
            self._reader: int | None = self._library.TF_NewCheckpointReader(prefix.encode(), status)
        count = self._library.TF_CheckpointReaderSize(self._reader)
        keys = (self._library.TF_CheckpointReaderGetVariable(self._reader, place).decode() for place in range(count))
        self.names = tuple(sorted(key.removesuffix(_SUFFIX) for key in keys if key.endswith(_SUFFIX)))

    def read(self, name: str) -> Array:
        """A variable's value, whole; of bfloat16 its bits.

        Raises:
            NotFoundError: no such variable.
            ServingError: it is damaged.
        """
        if name not in self.names:
            raise NotFoundError(f"the variables lack {name}")
        with checked_status() as status:
            tensor = self._library.TF_CheckpointReaderGetTensor(self._reader, (name + _SUFFIX).encode(), status)
        return read_tensor(tensor)

    def floats(self) -> tuple[str, ...]:
        """The variables that hold numbers which may be no number: of 16, 32 or 64 bits."""
        kind = self._library.TF_CheckpointReaderGetVariableDataType
        return tuple(name for name in self.names if kind(self._reader, (name + _SUFFIX).encode()) in _FLOATS)

    def first_not_finite(self, name: str) -> int | None:
        """The row of a variable of floats that holds the first NaN or infinity; None if all are finite."""
        values = self.read(name)
        rows = values.reshape(len(values), -1) if values.ndim else values.reshape(1, 1)
        step = max(1, _BLOCK // max(1, rows.shape[1]))
        for start in range(0, len(rows), step):
            broken = np.flatnonzero(~_finite(rows[start : start + step]).all(axis=1))
            if len(broken):
                return start + int(broken[0])
        return None

    def close(self) -> None:
        """Frees it; a second call does nothing."""
        reader, self._reader = self._reader, None
        if reader is not None:
            self._library.TF_DeleteCheckpointReader(reader)

    def __enter__(self) -> "Checkpoint":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _finite(values: Array) -> Array:
    if values.dtype == np.uint16:  # bfloat16: all bits of the exponent set
        return np.asarray((values & 0x7F80) != 0x7F80)
    return np.asarray(np.isfinite(values))
