"""Which items a run was trained on: `items/seen.npy` in the run, a boolean by item row.

An item is known to a run if it is a behaviour or a target in the train split that the run learned from, or in that of
the run it was initialised from. Evaluation tells known from new items by it.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from twin_tf.core.keras_api import tf
from twin_tf.features.schema import FIRST_KNOWN
from twin_tf.records import format as records
from twin_tf.records.format import Manifest
from twin_tf.records.input_pipeline import load_item_ids
from twin_tf.records.packing import unpack
from twin_tf.records.shard_files import shard_files

SEEN_ITEMS = "items/seen.npy"
RECORDS_AT_ONCE = 256

Flags = npt.NDArray[np.bool_]


def seen_items(manifest: Manifest) -> Flags:
    """The items of the train split.

    Args:
        manifest: prepared data.

    Returns:
        bool `(items,)` by item row; padding and unknown are never seen.
    """
    seen = np.zeros(len(load_item_ids(manifest.directory)), bool)
    keys = (records.HISTORY_ITEM, records.TARGET_ITEM)
    spec = {key: tf.io.FixedLenFeature([], tf.string) for key in keys}
    dataset = tf.data.TFRecordDataset(shard_files(manifest, "train")).batch(RECORDS_AT_ONCE)
    for batch in dataset.map(lambda serialized: tf.io.parse_example(serialized, spec)).as_numpy_iterator():
        for key in keys:
            seen[unpack(b"".join(batch[key]), manifest.widths[key])] = True
    seen[:FIRST_KNOWN] = False
    return seen


def save_seen_items(run: Path, manifest: Manifest, earlier: str | Path | None = None) -> None:
    """Writes `items/seen.npy` into a run.

    Args:
        run: trained on `manifest`.
        manifest: prepared data.
        earlier: the run that it was initialised from, whose items count too. If that one does not say what it has seen,
            nothing is written: half of the truth would be none.
    """
    seen = seen_items(manifest)
    if earlier is not None:
        before = load_seen_items(Path(earlier))
        if before is None:
            return
        seen[FIRST_KNOWN:] |= np.isin(load_item_ids(run)[FIRST_KNOWN:], load_item_ids(Path(earlier))[before])
    np.save(run / SEEN_ITEMS, seen)


def load_seen_items(run: Path) -> Flags | None:
    """What `save_seen_items` wrote: bool `(items,)` by item row; None for a run that does not say."""
    path = run / SEEN_ITEMS
    return np.load(path) if path.is_file() else None
