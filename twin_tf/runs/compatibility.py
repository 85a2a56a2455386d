"""A run and prepared data of another day.

A chain of `preprocess --previous` keeps every row: vocabularies and the catalogue of a later day begin with those of
the day before, boundaries stay. So a run can read a later day's data: rows past the end of its tables are unknown to
it, and all others mean what they meant.
"""

import dataclasses
from pathlib import Path

import numpy as np

from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.keras_api import tf
from twin_tf.features.encoders import FeatureEncoder
from twin_tf.features.schema import FeatureSchema
from twin_tf.layers.embeddings import ItemEmbedding
from twin_tf.models.twin import TwinModel
from twin_tf.records import format as records
from twin_tf.records.format import Manifest
from twin_tf.records.input_pipeline import load_item_features, load_item_ids
from twin_tf.runs.recorded_settings import load_run_config
from twin_tf.runs.run import schema_of


def check_same_encoding(run: Path, manifest: Manifest, *, items_alone: bool = False) -> None:
    """Whether indices and item rows mean the same in a run and in prepared data, as far as both have them.

    Args:
        run: its directory.
        manifest: of the data that the run was trained on, or of an earlier or later day of the same chain.
        items_alone: only items are looked up: histories may be clustered in one of the two, and keep values.

    Raises:
        ConfigError: another schema, boundaries, a vocabulary or catalogue that neither grew from the other: the run
            would read wrong rows without a word.
    """
    prepared = Path(manifest.directory)
    schemas = [manifest.schema, schema_of(load_run_config(run))]
    if items_alone:
        schemas = [_without_histories(schema) for schema in schemas]
    if schemas[0].contents_fingerprint != schemas[1].contents_fingerprint:
        raise ConfigError(f"{prepared} was prepared with another schema than the run {run} was trained with")
    mine, theirs = FeatureEncoder.load(run), FeatureEncoder.load(prepared)
    for name, before in mine.fitted.items():
        kind = manifest.schema.feature(name).encoding_or_fail.kind
        both = min(len(before), len(theirs.fitted[name]))
        if kind == "numeric" and before != theirs.fitted[name]:
            raise ConfigError(
                f"{prepared} has other boundaries of {name} than the run {run} was trained with; preprocess with "
                "--previous, which keeps them"
            )
        if before[:both] != theirs.fitted[name][:both]:
            raise ConfigError(_other_rows(f"vocabularies/{name}.json", prepared, run))
    known, found = load_item_ids(run), load_item_ids(prepared)
    both = min(len(known), len(found))
    if not np.array_equal(known[:both], found[:both]):
        raise ConfigError(_other_rows(records.ITEMS, prepared, run))


def _without_histories(schema: FeatureSchema) -> FeatureSchema:
    """The schema as far as items go: the same for raw and clustered histories, with and without kept values."""
    features = tuple(dataclasses.replace(feature, keep_value=False) for feature in schema.features)
    return dataclasses.replace(schema.clustered(False), features=features)


def _other_rows(name: str, prepared: Path, run: Path) -> str:
    return (
        f"{prepared} has another {name} than the run {run} was trained with: its rows differ; preprocess with "
        "--previous, which keeps them"
    )


def use_catalogue(model: TwinModel, manifest: Manifest) -> None:
    """Lets a model look items up in the catalogue of prepared data instead of that of its run.

    A new item is then more than unknown: where the model knows its author, the author counts.

    Args:
        model: of a run for which `check_same_encoding` holds.
        manifest: prepared data, whose item rows the model will be given.
    """
    features, _ = load_item_features(manifest.directory, manifest.schema)
    catalogue = tf.Variable(features, trainable=False, name="item_features", dtype=tf.int32)
    for layer in model.submodules:
        if isinstance(layer, ItemEmbedding):
            layer.item_features = catalogue
