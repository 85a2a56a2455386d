"""The rows of embedding tables and of their AdaGrad accumulators, wherever they lie: replicas, shards, one process."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from twin_tf.core.keras_api import tf
from twin_tf.layers.embeddings import table_variables
from twin_tf.layers.table_initializer import BLOCK_ROWS, TableInitializer
from twin_tf.models.twin import TwinModel

Floats = npt.NDArray[np.float32]
Rows = Callable[[int, int], Floats]
"""`(first, last)` -> float32 `(last - first, dim)`."""


class Table(NamedTuple):
    """An embedding table: its name in reports, the variable or sharded variable, and how it was drawn."""

    name: str
    variable: Any
    initializer: TableInitializer


def named_tables(model: TwinModel, prefix: str = "") -> Iterator[Table]:
    """Every embedding table of a model."""
    schema, items, relevance = model.schema, model.item_embedding, model.relevance_embedding
    for feature, table in zip(schema.inherent, items.tables, strict=True):
        yield Table(prefix + feature.name, table, items.initializer(feature))
    if relevance is not items:
        for feature, table in zip(relevance.features, relevance.tables, strict=True):
            yield Table(f"{prefix}relevance.{feature.name}", table, relevance.initializer(feature))
    for feature in schema.cross:
        cross = model.cross_embedding
        yield Table(prefix + feature.name, cross.tables[feature.name], cross.initializer(feature))
    for feature in (*schema.user, *schema.of_target):
        layers = model.user_embeddings if feature.name in model.user_embeddings else model.context_embeddings
        layer = layers[feature.name]
        yield Table(prefix + feature.name, layer.table, layer.initializer(feature))
    if model.auxiliary is not None:
        yield from named_tables(model.auxiliary, f"{prefix}auxiliary.")


class TableRows:
    """A table and its accumulators, read and written in blocks of rows.

    Args:
        table: of a model.
        strategy: that the model was made under.
        adagrad: the tables' optimiser.
    """

    def __init__(self, table: Table, strategy: tf.distribute.Strategy, adagrad: Any) -> None:
        self._local = strategy.experimental_local_results
        self._initializer = table.initializer
        self._empty = adagrad._initial_accumulator_value
        self.rows, self.dim = (int(size) for size in table.variable.shape)
        self._shards = table_variables(table.variable)
        self._slots = [adagrad.get_slot(shard, "accumulator") for shard in self._shards]

    def start(self, first: int, last: int) -> Floats:
        """What the rows were drawn as."""
        drawn: Floats = self._initializer.rows(first, last, self.dim).numpy()
        return drawn

    def empty(self, first: int, last: int) -> Floats:
        """What the rows' accumulators start with."""
        return np.full((last - first, self.dim), self._empty, np.float32)

    def blocks(self) -> Iterator[tuple[int, int, Floats]]:
        """First and last row of each block of the table, the last left out, and the rows as they are."""
        return self._read(self._shards)

    def at(self, rows: npt.NDArray[np.int64]) -> Floats:
        """Some rows as they are, `(n, dim)`.

        Args:
            rows: their numbers, rising.
        """
        parts, offset = [], 0
        for shard in self._shards:
            size = int(shard.shape[0])
            inside = rows[(rows >= offset) & (rows < offset + size)] - offset
            parts.append(tf.gather(self._local(shard)[0], inside).numpy())
            offset += size
        return np.concatenate(parts)

    def accumulators(self) -> Iterator[tuple[int, int, Floats]]:
        """The same of the accumulators."""
        return self._read(self._slots)

    def write(self, rows: Rows) -> None:
        """Sets the table, on every replica of this process."""
        self._write(self._shards, rows)

    def reset(self) -> None:
        """Puts table and accumulators back to their start."""
        self._write(self._shards, self.start)
        self._write(self._slots, self.empty)

    def _spans(self) -> Iterator[tuple[int, int, int, int]]:
        """Shard, its first row in the table, and the first and last row of a block within it."""
        offset = 0
        for place, shard in enumerate(self._shards):
            size = int(shard.shape[0])
            for first in range(0, size, BLOCK_ROWS):
                yield place, offset, first, min(first + BLOCK_ROWS, size)
            offset += size

    def _read(self, variables: list[Any]) -> Iterator[tuple[int, int, Floats]]:
        for place, offset, first, last in self._spans():
            rows = tf.gather(self._local(variables[place])[0], tf.range(first, last))
            yield offset + first, offset + last, rows.numpy()

    def _write(self, variables: list[Any], rows: Rows) -> None:
        for place, offset, first, last in self._spans():
            values = tf.IndexedSlices(tf.constant(rows(offset + first, offset + last)), tf.range(first, last))
            for copy in self._local(variables[place]):
                copy.scatter_update(values)
