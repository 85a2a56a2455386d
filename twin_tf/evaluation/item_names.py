"""What people call items: the values of their inherent features that are text, such as a category or a brand."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from twin_tf.features.encoders import FeatureEncoder
from twin_tf.features.raw_ids import id_feature, id_texts
from twin_tf.features.schema import FIRST_KNOWN
from twin_tf.records.input_pipeline import load_item_features


def item_names(run: Path, rows: npt.NDArray[np.int64]) -> list[str]:
    """Names of item rows, `item 123` (the raw id) where no value is text.

    Args:
        run: a run, or prepared data.
        rows: `(n,)` of its catalogue.

    Returns:
        The values in the order of the schema, a slash between, each once.
    """
    encoder = FeatureEncoder.load(run)
    schema = encoder.schema
    features, ids = load_item_features(run, schema)
    texts: list[list[str]] = [[] for _ in rows]
    for feature in schema.inherent:
        if feature.encoding_or_fail.kind != "vocabulary" or feature.type == "int":
            continue
        values: list[Any] = encoder.fitted[feature.name]
        column = features[rows, schema.inherent_slices[feature.name].start]
        for text, index in zip(texts, column.tolist(), strict=True):
            if index >= FIRST_KNOWN and str(values[index - FIRST_KNOWN]) not in text:
                text.append(str(values[index - FIRST_KNOWN]))
    return [" / ".join(text) or f"item {ids[row]}" for text, row in zip(texts, rows, strict=True)]


def shown_ids(run: Path, rows: npt.NDArray[np.int64]) -> list[int | str]:
    """Raw ids of item rows as the logs have them: numbers, or text where a vocabulary holds it, else its hash.

    Args:
        run: a run, or prepared data.
        rows: `(n,)` of its catalogue.
    """
    encoder = FeatureEncoder.load(run)
    features, every = load_item_features(run, encoder.schema)
    ids = every[rows].tolist()
    feature = id_feature(encoder.schema, "inherent")
    if feature is None:
        return list(ids)
    column = features[rows, encoder.schema.inherent_slices[feature.name].start].tolist()
    texts = id_texts(encoder, feature, column, ids)
    return [raw if text is None else text for text, raw in zip(texts, ids, strict=True)]
