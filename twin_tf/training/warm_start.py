"""`train --init-from RUN`: a new model starts from an earlier run's weights, on data with other vocabularies.

Every row of a vocabulary's table goes by its value: wherever the value stands now, it keeps its weights and AdaGrad's
accumulators. New values start fresh, vanished ones are dropped. All other weights, and the moments and step counts of
the optimisers, are copied as they are. So nothing changes for who was there before, and training goes on.

Example:
    >>> plan = plan_transfer("monday-run", manifest, config.model)  # says what does not fit, before anything is made
    >>> model, _ = build_model(source, config, info)
    >>> apply_transfer(plan, model, optimizer)
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

from twin_tf.config import ModelConfig
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.keras_api import keras, tf
from twin_tf.features.encoders import FeatureEncoder
from twin_tf.features.schema import FIRST_KNOWN, Feature
from twin_tf.layers.embeddings import table_variables
from twin_tf.models.twin import TwinModel
from twin_tf.records.format import Manifest
from twin_tf.runs.recorded_settings import load_run_config
from twin_tf.runs.run import finished_checkpoint, schema_of
from twin_tf.search import find_strategy

FREE_SETTINGS = (
    "history_length", "top_k", "precision", "projection_init", "relevance_init_scale", "short_term_length",
    "embedding_scale", "cluster_size_bias",
)  # fmt: skip
"""Settings of `model` that no weight's shape depends on; with the short-term block, only whether there is one.

So are the search and its settings, unless it has weights of its own.
"""

FRESH = -1
_NO_FIT = "let both be the same, or train without --init-from"

Rows = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Transfer:
    """What goes where.

    Attributes:
        checkpoint: the earlier run's.
        rows: feature -> for each row of its new table the row in the old one, or `FRESH`.
        dropped: feature -> rows of the old table that have no place in the new one.
    """

    checkpoint: str
    rows: Mapping[str, Rows]
    dropped: Mapping[str, int]

    def to_plain(self) -> dict[str, dict[str, int]]:
        """Feature -> rows `kept`, `fresh` and `dropped`, of those whose table is another; for reports."""
        plain = {}
        for name, rows in self.rows.items():
            fresh = int((rows == FRESH).sum())
            if fresh or self.dropped[name]:
                plain[name] = {"kept": len(rows) - fresh, "fresh": fresh, "dropped": self.dropped[name]}
        return plain


def plan_transfer(run: str | Path, manifest: Manifest, model: ModelConfig, verify: bool = True) -> Transfer:
    """Checks that a model can start from an earlier run.

    Args:
        run: the earlier run, finished.
        manifest: prepared data of the new one.
        model: its settings.
        verify: see `run.finished_checkpoint`.

    Raises:
        ConfigError: not a finished or a damaged run, or one whose features or settings make other weights.
    """
    directory = Path(run)
    checkpoint = finished_checkpoint(directory, verify=verify)
    config = load_run_config(directory)
    mine, theirs = model.in_use(), config.model.in_use()
    learns = any(find_strategy(name).learns for name in (model.search, config.model.search))
    for name in {**mine, **theirs}:
        here, there = mine.get(name), theirs.get(name)
        of_search = name == "search" or name.startswith("searches.")
        free = not learns if of_search else name in FREE_SETTINGS and bool(here) == bool(there)
        if here != there and not free:
            raise ConfigError(
                f"model.{name} is {here}, but {there} in the run {run}, so its weights are others; {_NO_FIT}"
            )
    schema = schema_of(config)
    time = manifest.schema.events.time
    if time != dataclasses.replace(schema.events.time, column=time.column, format=time.format):
        raise ConfigError(
            f"events.time has another unit, utc_offset_hours or timezone than in the run {run}; {_NO_FIT}"
        )
    before, now = ([(f.name, f.role) for f in side.features] for side in (schema, manifest.schema))
    if before != now:
        odd = sorted({name for name, _ in {*before} ^ {*now}}) or [name for name, _ in now]
        raise ConfigError(
            f"the run {run} and {manifest.place} differ in the features {', '.join(odd)} or their order; {_NO_FIT}"
        )
    old, new = FeatureEncoder.load(directory), FeatureEncoder.load(manifest.directory)
    rows, dropped = {}, {}
    for feature in manifest.schema.features:
        _check_alike(old, new, feature, run)
        rows[feature.name] = _rows(old, new, feature)
        dropped[feature.name] = old.cardinality(schema.feature(feature.name)) - int((rows[feature.name] != FRESH).sum())
    return Transfer(checkpoint, rows, dropped)


def _check_alike(old: FeatureEncoder, new: FeatureEncoder, feature: Feature, run: str | Path) -> None:
    """Raises unless an index of the feature means the same in both, vocabularies apart."""
    before, now = _meaning(old, old.schema.feature(feature.name)), _meaning(new, feature)
    for what, value in now.items():
        if value != before[what]:
            raise ConfigError(
                f"feature {feature.name!r} has {what} {value}, but {before[what]} in the run {run}; {_NO_FIT}"
            )


def _meaning(encoder: FeatureEncoder, feature: Feature) -> dict[str, Any]:
    encoding = feature.encoding_or_fail
    meaning = {field.name: getattr(feature, field.name) for field in dataclasses.fields(feature)}
    for where_it_comes_from in ("column", "type", "encoding", "keep_value"):
        del meaning[where_it_comes_from]
    meaning |= {"kind": encoding.kind, "buckets": encoding.buckets, "size": encoding.size}
    return meaning | {"boundaries": encoder.boundaries(feature) if encoding.kind == "numeric" else None}


def _rows(old: FeatureEncoder, new: FeatureEncoder, feature: Feature) -> Rows:
    if feature.encoding_or_fail.kind != "vocabulary":
        return np.arange(new.cardinality(feature))
    place = {value: row for row, value in enumerate(old.fitted[feature.name], FIRST_KNOWN)}
    return np.array([*range(FIRST_KNOWN), *(place.get(value, FRESH) for value in new.fitted[feature.name])], np.int64)


class EarlierWeights:
    """What a transfer gives the weights of a model to start from; read from the earlier checkpoint one by one.

    Args:
        plan: of `plan_transfer`.
        model: on the data of the plan.
        optimizer: its composite of legacy optimisers, as `train.TrainStep` makes it.

    Raises:
        ConfigError: the earlier run lacks a weight of the model.
    """

    def __init__(self, plan: Transfer, model: TwinModel, optimizer: keras.optimizers.legacy.Optimizer) -> None:
        self._rows: dict[int, Rows | None] = {
            **{id(variable): None for variable in (*model.dense_variables, *_iterations(optimizer))},
            **{id(table): plan.rows[feature.name] for feature, table in embedding_tables(model)},
        }
        self._reader = tf.train.load_checkpoint(plan.checkpoint)
        graph = TrackableObjectGraph.FromString(self._reader.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH"))
        root = tf.train.Checkpoint(model=model, optimizer=optimizer)
        found = tf.train.CheckpointView(plan.checkpoint).match(root)
        self.weights = {_key(graph, node): variable for node, variable in found.items() if id(variable) in self._rows}
        """The checkpoint's key -> weight, table, or step count of an optimiser."""
        self.slots: list[tuple[str, keras.optimizers.legacy.Optimizer, Any, str]] = []
        """The checkpoint's key, optimiser, weight and name of each slot."""
        for node, one in found.items():
            for slot in graph.nodes[node].slot_variables:
                variable = found.get(slot.original_variable_node_id)
                if id(variable) in self._rows:
                    key = _key(graph, slot.slot_variable_node_id)
                    self.slots.append((key, one, variable, slot.slot_name))
        self._keys = {id(variable): key for key, variable in self.weights.items()}
        if missing := [variable.name for variable in _weights(model) if id(variable) not in self._keys]:
            raise ConfigError(f"{plan.checkpoint} lacks the weights {', '.join(missing)}; train without --init-from")

    def value(self, key: str, variable: Any, fresh: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What a weight, or a slot of it, starts from.

        Args:
            key: the checkpoint's.
            variable: the weight.
            fresh: what it or its slot is before the transfer; new rows of a table keep that.
        """
        value: npt.NDArray[Any] = self._reader.get_tensor(key)
        rows = self._rows[id(variable)]
        return value if rows is None else np.where((rows == FRESH)[:, None], fresh, value[rows])

    def table(self, table: Any, fresh: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """`value` of an embedding table."""
        return self.value(self._keys[id(table)], table, fresh)

    def accumulator(self, table: Any, fresh: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """`value` of AdaGrad's accumulators of an embedding table."""
        (key,) = [key for key, _, variable, _ in self.slots if variable is table]
        return self.value(key, table, fresh)


def apply_transfer(plan: Transfer, model: TwinModel, optimizer: keras.optimizers.legacy.Optimizer) -> None:
    """Copies weights, accumulators, moments and step counts of the earlier run.

    Args:
        plan: of `plan_transfer`.
        model: freshly built on the data of the plan.
        optimizer: its composite of legacy optimisers, as `train.TrainStep` makes it.

    Raises:
        ConfigError: the earlier run lacks a weight of the model, or has it in another shape.
    """
    earlier = EarlierWeights(plan, model, optimizer)
    for key, variable in earlier.weights.items():
        _fill(variable, earlier.value(key, variable, tf.convert_to_tensor(variable).numpy()))
    for key, one, variable, name in earlier.slots:
        one._create_all_weights(table_variables(variable))  # legacy optimisers make slots in their first step otherwise
        slot = one.get_slot(variable, name)
        _fill(slot, earlier.value(key, variable, tf.convert_to_tensor(slot).numpy()))


def _iterations(optimizer: keras.optimizers.legacy.Optimizer) -> list[Any]:
    return [one.iterations for one in optimizer.optimizers]


def embedding_tables(model: TwinModel) -> Iterator[tuple[Feature, Any]]:
    """Every embedding table of a model and the feature whose indices are its rows."""
    yield from zip(model.schema.inherent, model.item_embedding.tables, strict=True)
    if model.relevance_embedding is not model.item_embedding:
        yield from zip(model.schema.inherent, model.relevance_embedding.tables, strict=True)
    for feature in model.schema.cross:
        yield feature, model.cross_embedding.tables[feature.name]
    for feature in model.schema.user:
        yield feature, model.user_embeddings[feature.name].table
    for feature in model.schema.of_target:
        yield feature, model.context_embeddings[feature.name].table
    if model.auxiliary is not None:
        yield from embedding_tables(model.auxiliary)


def _weights(model: TwinModel) -> list[Any]:
    return [*(table for _, table in embedding_tables(model)), *model.dense_variables]


def _key(graph: TrackableObjectGraph, node: int) -> str:
    """The checkpoint's key of a variable."""
    (attribute,) = graph.nodes[node].attributes
    return attribute.checkpoint_key


def _fill(variable: Any, value: npt.NDArray[Any]) -> None:
    if variable.shape != value.shape:
        raise ConfigError(
            f"{variable.name} has shape {tuple(variable.shape)}, but {value.shape} in the earlier run; train without "
            "--init-from"
        )
    variable.assign(value)
