"""What an export will need, read from the run before anything is loaded: bytes on the disk and in memory.

A model's size is that of its embedding tables and of the projection table, and both grow with the items. The checkpoint
says the tables' shapes, whatever the network is.
"""

import dataclasses
import math
import shutil
from pathlib import Path

import pyarrow.parquet as pq

from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.keras_api import tf
from twin_tf.core.mirrors import at_hand
from twin_tf.features.schema import FIRST_KNOWN, load_schema
from twin_tf.records.format import ITEMS, SCHEMA
from twin_tf.runs.checkpoints import checkpoint_name
from twin_tf.runs.recorded_settings import load_run_config
from twin_tf.runs.run import CHECKPOINTS, finished_checkpoint, load_info

_SLOT = "/.OPTIMIZER_SLOT/"
_LIBRARIES = 600_000_000
"""TensorFlow, Keras and the graphs, measured: see docs/many_items.md."""
_VALUE = 370
"""Bytes a value of a vocabulary as Python holds it, measured likewise."""
_LOOKUP = 20
"""Bytes an item: its id, its row and two places of the hash table."""


@dataclasses.dataclass(frozen=True)
class ExportNeeds:
    """Bytes.

    Attributes:
        weights: of all variables of the model, its tables and the item features.
        lookup: of the table from ids to rows.
        projection: of the projection table as it is served.
        projection_live: of the same in float32, before it is rounded.
        vocabularies: of their values in Python.
    """

    weights: int
    lookup: int
    projection: int
    projection_live: int
    vocabularies: int = 0

    @property
    def disk(self) -> int:
        """Of the model directory; a server holds as much in memory, and twice that while it changes versions."""
        return self.weights + self.lookup + self.projection

    @property
    def memory(self) -> int:
        """Of the process that exports: it holds weights and projections twice, as computed and as served."""
        projections = self.projection_live + self.projection
        return _LIBRARIES + self.vocabularies + 2 * self.weights + self.lookup + projections

    def __str__(self) -> str:
        return (
            f"export needs {self.memory / 1e9:.2f} GB of memory and {self.disk / 1e9:.2f} GB of disk: "
            f"weights {self.weights / 1e9:.2f} GB, projection table {self.projection / 1e9:.2f} GB; a server holds "
            f"{self.disk / 1e9:.2f} GB, twice that while it changes versions"
        )


def export_needs(run: str | Path, table: str | None = None) -> ExportNeeds:
    """What an export of a run needs.

    Args:
        run: a finished run, local or in a bucket, from which it is copied.
        table: type of the projection table, in place of the run's `serving.table`.

    Raises:
        ConfigError: not a finished run.
    """
    root = at_hand(run)
    info = load_info(root)
    try:  # its index alone: whoever loads the run checks all of it
        reader = tf.train.load_checkpoint(str(root / CHECKPOINTS / checkpoint_name(info.steps)))
    except (ValueError, tf.errors.OpError):
        reader = tf.train.load_checkpoint(finished_checkpoint(root, verify=False))
    types = reader.get_variable_to_dtype_map()
    weights = sum(
        math.prod(shape) * types[name].size
        for name, shape in reader.get_variable_to_shape_map().items()
        if name.startswith("model/") and _SLOT not in name and types[name] != tf.string
    )
    config = load_run_config(root)
    rows = pq.read_metadata(root / ITEMS).num_rows + FIRST_KNOWN
    values = rows * config.model.heads * config.model.head_size
    served = values * tf.as_dtype(table or config.serving.table).size
    features = load_schema(root / SCHEMA).features
    texts = sum(info.cardinalities[f.name] for f in features if f.encoding_or_fail.kind == "vocabulary")
    return ExportNeeds(weights, rows * _LOOKUP, served, values * 4, texts * _VALUE)


def check_room(needs: ExportNeeds, output: str | Path, free_memory: int | None = None) -> str:
    """Whether an export fits.

    Args:
        needs: of the export.
        output: a new directory on a local disk; elsewhere nothing is said of the disk.
        free_memory: bytes that are free; None asks the machine.

    Returns:
        A warning if the memory is short; empty if all fits.

    Raises:
        ConfigError: the disk has less room than the model directory needs.
    """
    if "://" not in str(output):
        place = Path(output).absolute()
        free = shutil.disk_usage(next(parent for parent in (place, *place.parents) if parent.exists())).free
        if free < needs.disk:
            raise ConfigError(
                f"{output}: the model needs {needs.disk / 1e9:.2f} GB and the disk has {free / 1e9:.2f} GB free; make "
                "room, or see docs/many_items.md for smaller tables"
            )
    found = available_memory() if free_memory is None else free_memory
    if found is None or found >= needs.memory:
        return ""
    return (
        f"warning: {found / 1e9:.2f} GB of memory are free, and the export needs about {needs.memory / 1e9:.2f} GB: "
        "it may be killed; see docs/many_items.md for smaller tables"
    )


def available_memory() -> int | None:
    """Bytes of memory that a process may still take here, by the kernel's and the container's word; None: unknown."""
    found = []
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")))
        limit, used = (Path(f"/sys/fs/cgroup/memory.{name}").read_text().strip() for name in ("max", "current"))
        if limit != "max":
            found.append(int(limit) - int(used))
    except (OSError, StopIteration, ValueError):
        pass
    return min(found) if found else None
