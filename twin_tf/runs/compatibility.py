"""A run and prepared data of another day.

A chain of `preprocess --previous` keeps every row: vocabularies and the catalogue of a later day begin with those of
the day before, boundaries stay. So a run can read a later day's data: rows past the end of its tables are unknown to
it, and all others mean what they meant.
"""

from pathlib import Path

import numpy as np

from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.keras_api import tf
from twin_tf.features.contract import difference, schema_difference
from twin_tf.features.encoders import FeatureEncoder
from twin_tf.layers.embeddings import ItemEmbedding
from twin_tf.models.twin import TwinModel
from twin_tf.records import format as records
from twin_tf.records.format import Manifest
from twin_tf.records.input_pipeline import load_item_features, load_item_ids
from twin_tf.runs.recorded_settings import CONFIG, load_run_config
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
    mine, theirs = FeatureEncoder.load(prepared), run_encoder(run)
    if clause := difference(mine, theirs, items_alone=items_alone):
        raise ConfigError(
            f"{manifest.place} was prepared with another contract than the run {run} was trained with: {clause}; "
            "preprocess with --previous, which keeps it"
        )
    known, found = load_item_ids(run), load_item_ids(prepared)
    both = min(len(known), len(found))
    if not np.array_equal(known[:both], found[:both]):
        raise ConfigError(
            f"{manifest.place} has another {records.ITEMS} than the run {run} was trained with: its rows differ; "
            "preprocess with --previous, which keeps them"
        )


def run_encoder(run: Path) -> FeatureEncoder:
    """The encoder of a run, whose contract is that of the settings that its model is built from.

    Raises:
        ConfigError: `config.yaml` holds another schema than the data that the run was trained on, or a file was changed
            after it was made.
    """
    encoder = FeatureEncoder.load(run)
    if clause := schema_difference(schema_of(load_run_config(run)), encoder.schema):
        raise ConfigError(
            f"{run / CONFIG} was changed after the run was trained: {clause} as in schema.yaml beside it; train again"
        )
    return encoder


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
