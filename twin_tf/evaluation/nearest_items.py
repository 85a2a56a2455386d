"""What a run has learned about items, for a look: well-known items and those whose embeddings are nearest.

Items have the names of `item_names`. Of several items of one name the nearest alone is shown, and none of the name of
the item itself: that its own kind is near says little.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from twin_tf.core.files import JsonDict
from twin_tf.core.keras_api import tf
from twin_tf.evaluation.item_names import item_names, shown_ids
from twin_tf.features.schema import FIRST_KNOWN
from twin_tf.records import format as records
from twin_tf.records.corrupt_records import corrupt_records_named
from twin_tf.records.format import Manifest
from twin_tf.records.packing import unpack
from twin_tf.records.shard_files import shard_files
from twin_tf.runs.run import load_run

FEWEST = 20
"""Behaviours of an item, from which on it can be named as near: of rarer ones little was learned."""

Floats = npt.NDArray[np.float32]


def nearest_items(
    run: str | Path, prepared: str | Path | None = None, items: int = 6, nearest: int = 4, *, verify: bool = True
) -> JsonDict:
    """The nearest of some well-known items.

    Args:
        run: a finished run.
        prepared: its data, to count behaviours in; where the run was trained if left out.
        items: how many well-known ones: the most frequent, each of another name.
        nearest: how many near ones each.
        verify: compare the files of run and data that hold no records with their SHA-256; records are always checked.

    Returns:
        `candidates`: how many items had behaviours enough; `cosine_p99`: 99 % of all pairs of candidates are less near
        than this; `items`: a list of `item` (its id as the logs have it, see `shown_ids`), `name`, `behaviours` and
        `nearest`, a list of `item`, `name` and `cosine` of the embeddings, the nearest first.

    Raises:
        ConfigError: not a finished run, or no such data.
    """
    loaded = load_run(run, verify=verify)
    manifest = Manifest.load(prepared if prepared is not None else loaded.info.prepared, verify=verify)
    with corrupt_records_named(manifest):
        count = _behaviours(manifest, len(loaded.item_ids))
    known = np.flatnonzero(count >= FEWEST)
    known = known[np.argsort(-count[known], kind="stable")]
    names, ids = item_names(loaded.directory, known), shown_ids(loaded.directory, known)
    vectors = loaded.model.item_embedding(tf.constant(known, tf.int32)).numpy()
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    shown: list[JsonDict] = []
    for place, name in enumerate(names):
        if len(shown) == items:
            break
        if name not in {one["name"] for one in shown}:
            own = {"item": ids[place], "name": name, "behaviours": int(count[known[place]])}
            shown.append({**own, "nearest": _near(place, vectors, names, ids, nearest)})
    return {"candidates": len(known), "cosine_p99": _cosine_quantile(vectors, 0.99), "items": shown}


def _near(place: int, vectors: Floats, names: list[str], ids: list[int | str], nearest: int) -> list[JsonDict]:
    cosine = vectors @ vectors[place]
    found: dict[str, JsonDict] = {}
    for other in np.argsort(-cosine, kind="stable"):
        if len(found) == nearest:
            break
        if names[other] != names[place] and names[other] not in found:
            found[names[other]] = {
                "item": ids[other], "name": names[other], "cosine": float(cosine[other]),
            }  # fmt: skip
    return list(found.values())


def _behaviours(manifest: Manifest, items: int) -> npt.NDArray[np.int64]:
    """How many behaviours of the latest histories each item row has."""
    count = np.zeros(items, np.int64)
    spec = {records.HISTORY_ITEM: tf.io.FixedLenFeature([], tf.string)}
    dataset = tf.data.TFRecordDataset(shard_files(manifest, "histories")).batch(64)
    for batch in dataset.map(lambda serialized: tf.io.parse_example(serialized, spec)).as_numpy_iterator():
        rows = unpack(b"".join(batch[records.HISTORY_ITEM]), manifest.widths[records.HISTORY_ITEM])
        count += np.bincount(rows[rows < items], minlength=items)
    count[:FIRST_KNOWN] = 0
    return count


def _cosine_quantile(vectors: Floats, share: float) -> float | None:
    """Of the cosines of pairs, drawn at random; None for less than two vectors."""
    if len(vectors) < 2:
        return None
    generator = np.random.default_rng(1)
    first, second = generator.integers(0, len(vectors), (2, 100_000))
    different = first != second
    return float(np.quantile(np.einsum("nd,nd->n", vectors[first[different]], vectors[second[different]]), share))


def nearest_text(found: JsonDict) -> str:
    """The same for people."""
    lines = [f"{found['candidates']:,} items with at least {FEWEST} behaviours"]
    for one in found["items"]:
        near = ", ".join(f"{other['name']} ({other['cosine']:.2f})" for other in one["nearest"])
        lines.append(f"{one['name']} ({one['behaviours']:,} behaviours): {near}")
    return "\n".join(lines)
