"""The projections of the whole item pool on disk, between whoever computes them and whoever serves them.

    <directory>/projections/000000000000.npy    float32 `(rows, heads * head_size)`, the rows from that one on
                manifest.json                   which weights and which catalogue they belong to, and every shard
                _SUCCESS                        written last

`beam_pipelines.project_items` writes it; a refresh reads it.
"""

import dataclasses
import hashlib
import io
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from twin_tf.core.dataclass_yaml import ConfigError, build
from twin_tf.core.mirrors import at_hand
from twin_tf.core.yaml_text import parse_json
from twin_tf.records.format import MANIFEST, SUCCESS, Manifest
from twin_tf.records.input_pipeline import load_item_ids
from twin_tf.runs.compatibility import check_same_encoding, use_catalogue
from twin_tf.runs.run import Run, load_run

Projections = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class ProjectionShard:
    """One file.

    Attributes:
        name: path below the directory.
        first_row: the item row that its first row belongs to.
        rows: how many it holds.
        sha256: of the file.
    """

    name: str
    first_row: int
    rows: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class ProjectionManifest:
    """The content of `manifest.json`.

    Attributes:
        weights_version: of the run whose weights were used.
        catalogue_sha256: see `catalogue_digest`.
        items: rows of all shards, padding and unknown included.
        width: heads * head_size.
        shards: in the order of their rows.
    """

    weights_version: int
    catalogue_sha256: str
    items: int
    width: int
    shards: tuple[ProjectionShard, ...]

    def to_json(self) -> str:
        """The text of `manifest.json`."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"


def run_with_catalogue(
    run: str | Path, prepared: str | Path | None, *, items_alone: bool = False, verify: bool = True
) -> Run:
    """Loads a run, with the catalogue of a later day where one is given.

    A new item is what its known features make of it; its own id is unknown to the weights.

    Args:
        run: a finished run.
        prepared: prepared data of a later day of the same chain; None keeps the run's own catalogue.
        items_alone: see `check_same_encoding`.
        verify: whether to compare the files of run and data with their SHA-256.

    Raises:
        ConfigError: not a finished run, or prepared data of another schema or with other rows.
    """
    loaded = load_run(run, verify=verify)
    if prepared is None:
        return loaded
    manifest = Manifest.load(prepared, verify=verify)
    check_same_encoding(loaded.directory, manifest, items_alone=items_alone)
    ids = load_item_ids(manifest.directory)
    more = len(ids) - len(loaded.item_ids)
    if more < 0 or (more == 0 and not loaded.schema.counted_item):  # what is counted of items changes every day
        return loaded
    use_catalogue(loaded.model, manifest)
    return dataclasses.replace(loaded, item_ids=ids)


def catalogue_digest(run: Run) -> str:
    """SHA-256 of the raw ids and the features of all items, by row."""
    digest = hashlib.sha256(np.ascontiguousarray(run.item_ids).tobytes())
    digest.update(np.ascontiguousarray(run.model.item_embedding.item_features.numpy()).tobytes())
    return digest.hexdigest()


def load_projections(directory: str | Path, run: Run) -> Projections:
    """Reads the projections of a run's items.

    Args:
        directory: what `beam_pipelines.project_items` wrote.
        run: with the catalogue that is to be served, see `run_with_catalogue`.

    Returns:
        float32 `(items, heads * head_size)`.

    Raises:
        ConfigError: the directory is unfinished or damaged, or was made of other weights or another catalogue.
    """
    root = at_hand(directory)
    if not (root / SUCCESS).is_file():
        raise ConfigError(f"{root} holds no finished projections; run `python -m beam_pipelines.project_items` first")
    plain = parse_json((root / MANIFEST).read_bytes(), str(root / MANIFEST))
    manifest = build(ProjectionManifest, plain, str(root / MANIFEST))
    if manifest.weights_version != run.info.weights_version:
        raise ConfigError(
            f"{root} was projected with weights of version {manifest.weights_version}, but {run.directory} has "
            f"{run.info.weights_version}; project again"
        )
    if manifest.catalogue_sha256 != catalogue_digest(run):
        raise ConfigError(f"{root} was projected from another catalogue than the one to be served; project again")
    table = np.empty((manifest.items, manifest.width), np.float32)
    done = 0
    for shard in manifest.shards:
        content = (root / shard.name).read_bytes()
        if hashlib.sha256(content).hexdigest() != shard.sha256 or shard.first_row != done:
            raise ConfigError(f"{root / shard.name} is damaged: its SHA-256 is another; project again")
        done += shard.rows
        table[shard.first_row : done] = np.load(io.BytesIO(content), allow_pickle=False)
    return table
