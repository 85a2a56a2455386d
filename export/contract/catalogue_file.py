"""The digests of the catalogue that a model serves: which item lies in which row, and with which features.

The ids and features themselves are variables of the model; the digests lie in `assets.extra`, so that rows which were
moved are found.
"""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np

from export.contract.tensors import Array
from twin_tf.core.dataclass_yaml import build
from twin_tf.core.yaml_text import parse_json
from twin_tf.features.schema import FIRST_KNOWN

CATALOGUE_FILE = "assets.extra/catalogue.json"


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """The content of `catalogue.json`.

    Attributes:
        items: rows, padding and unknown included.
        ids_sha256: of the raw ids by row, int64, from the first known item on.
        features_sha256: of the items' features by row, int32.
    """

    items: int
    ids_sha256: str
    features_sha256: str


def catalogue_of(ids: Array, features: Array) -> Catalogue:
    """The digests of a catalogue.

    Args:
        ids: int64 `(items,)` raw ids by row; those of padding and unknown do not count.
        features: int32 `(items, columns)`.
    """
    known, rows = np.ascontiguousarray(ids[FIRST_KNOWN:], "<i8"), np.ascontiguousarray(features, "<i4")
    return Catalogue(len(ids), hashlib.sha256(known.data).hexdigest(), hashlib.sha256(rows.data).hexdigest())


def save_catalogue(model: str | Path, catalogue: Catalogue) -> None:
    """Writes the digests of a model directory."""
    text = json.dumps(dataclasses.asdict(catalogue), indent=1)
    (Path(model) / CATALOGUE_FILE).write_text(text + "\n", encoding="utf-8")


def load_catalogue(model: str | Path) -> Catalogue | None:
    """Reads the digests of a model directory; None if it was exported before there were any.

    Raises:
        ConfigError: the file is damaged.
    """
    path = Path(model) / CATALOGUE_FILE
    return build(Catalogue, parse_json(path.read_bytes(), str(path)), str(path)) if path.is_file() else None
