"""The variables of one exported model, read once and written with changes into copies of it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from twin_tf.core.keras_api import tf

_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


class Variables:
    """Of a model directory.

    Attributes:
        values: by the path of attributes that leads to them.
    """

    def __init__(self, model: Path) -> None:
        reader = tf.train.load_checkpoint(str(model / "variables/variables"))
        self._tensors = {name: reader.get_tensor(name) for name in sorted(reader.get_variable_to_shape_map())}
        self.values = {
            name.removesuffix(_SUFFIX): np.asarray(value)
            for name, value in self._tensors.items()
            if name.endswith(_SUFFIX)
        }

    def write(self, copy: Path, changes: Mapping[str, np.ndarray]) -> None:
        """Writes all of them, some with other values, into a copy of the model."""
        prefix = copy / "variables/variables"
        for path in prefix.parent.iterdir():
            path.unlink()  # which may be a link to the model's
        tensors = {**self._tensors, **{f"{name}{_SUFFIX}": value for name, value in changes.items()}}
        assert tensors.keys() == self._tensors.keys()
        tf.raw_ops.SaveV2(
            prefix=str(prefix),
            tensor_names=list(tensors),
            shape_and_slices=[""] * len(tensors),
            tensors=list(tensors.values()),
        )
