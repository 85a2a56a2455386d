"""Embedding tables: items from their inherent features, cross features of behaviours, and single features.

Every table may be millions of rows long and, under a ParameterServerStrategy, cut into shards that lie on different
machines. So tables are read by `gather_rows` alone: it fetches the rows of the batch from wherever they lie, and their
gradient holds those rows and no others. Only `CrossEmbedding.compact` reads tables whole, and small ones alone.
"""

import contextlib
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from twin_tf.core.dataclass_yaml import build, to_plain
from twin_tf.core.keras_api import keras, tf
from twin_tf.features.schema import FIRST_KNOWN, PADDING, UNKNOWN, Feature, TimeColumn
from twin_tf.layers.cross_features import CrossRows
from twin_tf.layers.id_dropout import IdDropout
from twin_tf.layers.table_initializer import TableInitializer
from twin_tf.records.batch import History

CROSS_STDDEV = 0.05
LARGEST_WHOLE_TABLE = 4096
"""Rows up to which a cross feature's table is folded whole; of a larger one, the rows that the batch holds."""


def gather_rows(table: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """Rows of an embedding table; indices out of range read the unknown row instead of failing or wrapping around.

    Args:
        table: a tensor, a variable or a sharded variable, `(rows, ...)`.
        index: int `(...)`.

    Returns:
        `(..., *table.shape[1:])`.
    """
    return tf.nn.embedding_lookup(table, known_rows(table, index))


def known_rows(table: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """The indices, with the unknown row in place of those outside the table."""
    known = (index >= 0) & (index < tf.cast(row_count(table), index.dtype))
    return tf.where(known, index, UNKNOWN)


def row_count(table: tf.Tensor) -> tf.Tensor | int:
    """Rows of a table, without reading it: TensorFlow copies a variable that is both gathered from and read whole."""
    if table.shape[0] is not None:  # a sharded variable knows nothing else
        return table.shape[0]
    if hasattr(table, "handle"):
        return tf.raw_ops.VariableShape(input=table.handle)[0]
    return tf.shape(table)[0]


def table_variables(table: tf.Variable) -> list[tf.Variable]:
    """What an optimiser is to be given for a table: its shards, or the table itself where it is not sharded."""
    return list(table.variables) if hasattr(table, "variables") else [table]


def _plain(features: Sequence[Feature], cardinalities: Mapping[str, int]) -> dict[str, Any]:
    """Features and the sizes of their tables, as a layer's configuration holds them."""
    return {
        "features": [to_plain(feature) for feature in features],
        "cardinalities": {feature.name: cardinalities[feature.name] for feature in features},
    }


def _features(plain: Sequence[Any]) -> list[Feature]:
    return [build(Feature, feature, f"features[{place}]") for place, feature in enumerate(plain)]


@keras.utils.register_keras_serializable("twin_tf")
class ItemEmbedding(keras.layers.Layer):
    """An item row to the concatenation of its inherent features' embeddings, a row of K_h.

    A multi-valued feature counts as the mean of the embeddings of the item's values, and as unknown without any.

    Args:
        features: inherent features in order.
        cardinalities: feature name -> rows of its table.
        item_features: int32 `(items, columns)`: item row -> feature indices, `max_values` columns of each feature,
            padded with 0; rows 0 and 1 are padding and unknown. More columns are not looked at.
        norm: expected norm of each feature's embedding at the start.
        seed: of the start.

    Example:
        >>> layer = ItemEmbedding(schema.inherent, {"product": 5}, np.zeros((5, 1), np.int32), norm=2.0)
        >>> layer(tf.constant([[2, 3]])).shape
        TensorShape([1, 2, 16])
    """

    def __init__(
        self,
        features: Sequence[Feature],
        cardinalities: Mapping[str, int],
        item_features: npt.NDArray[np.int32],
        norm: float,
        seed: int = 1,
        name: str = "item_embedding",
    ) -> None:
        super().__init__(name=name)
        self.features = tuple(features)
        self.width = sum(feature.dim for feature in features)
        self._cardinalities, self._norm, self._seed = cardinalities, norm, seed
        self._dropout: IdDropout | None = None
        self.item_features = tf.Variable(item_features, trainable=False, name="item_features", dtype=tf.int32)
        self.tables = [
            self.add_weight(
                name=f"embedding_{feature.name}",
                shape=(cardinalities[feature.name], feature.dim),
                initializer=self.initializer(feature),
            )
            for feature in features
        ]

    def initializer(self, feature: Feature) -> TableInitializer:
        """Where the feature's table starts."""
        return TableInitializer(self._norm / np.sqrt(feature.dim), self._seed, f"{self.name}/{feature.name}")

    def call(self, rows: tf.Tensor) -> tf.Tensor:
        """Item rows, int `(...)`, -> float `(..., H)`; rows out of range are the unknown item."""
        index = gather_rows(self.item_features, rows)
        if self._dropout is not None:
            ids = tf.constant(self._ids)
            index = tf.where(ids, self._dropout.apply(rows, index), index)
        return self.embed_features(index)

    @contextlib.contextmanager
    def dropping(self, ids: Collection[str], dropout: IdDropout) -> Iterator[None]:
        """Within it, called with rows, the layer takes the dropped items' ids for unknown.

        Args:
            ids: the features that tell an item from all others.
            dropout: of which items.
        """
        self._dropout = dropout
        self._ids = [feature.name in ids for feature in self.features for _ in range(feature.max_values)]
        self._ids += [False] * (int(self.item_features.shape[1]) - len(self._ids))
        try:
            yield
        finally:
            self._dropout = None

    def embed_features(self, index: tf.Tensor) -> tf.Tensor:
        """Rows as `item_features` has them, int `(..., columns)`, -> float `(..., H)`, of any item."""
        parts = []
        first = 0
        for feature, table in zip(self.features, self.tables, strict=True):
            values = index[..., first : first + feature.max_values]
            parts.append(gather_rows(table, values[..., 0]) if feature.multi_valued is None else pooled(table, values))
            first += feature.max_values
        return tf.concat(parts, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the same layer; of the catalogue its shape alone, for its content is a variable."""
        config = {"item_features": list(self.item_features.shape), "norm": self._norm}
        config |= {"seed": self._seed, "name": self.name}
        return {**_plain(self.features, self._cardinalities), **config}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ItemEmbedding":
        """The layer of `get_config`, with an empty catalogue until weights are loaded."""
        items = np.zeros(config["item_features"], np.int32)
        features = _features(config["features"])
        return cls(features, config["cardinalities"], items, config["norm"], config["seed"], name=config["name"])


def pooled(table: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """The mean of the rows of an embedding table.

    Args:
        table: float `(rows, dim)`.
        index: int32 `(..., values)`, 0 where there is no value.

    Returns:
        float `(..., dim)`; the unknown row where there is no value at all.
    """
    nothing = tf.reduce_all(index == PADDING, axis=-1, keepdims=True)
    first = tf.range(index.shape[-1]) == 0
    index = tf.where(nothing & first, UNKNOWN, index)
    rows = gather_rows(table, index)
    real = tf.cast(index != PADDING, rows.dtype)[..., None]
    return tf.reduce_sum(rows * real, axis=-2) / tf.reduce_sum(real, axis=-2)


@keras.utils.register_keras_serializable("twin_tf")
class CrossEmbedding(keras.layers.Layer):
    """The embeddings E_j of the cross features, and the indices of those derived from times.

    Derived features are computed here, from the two times, so that training and serving cannot differ: `hour_of_day`
    and `day_of_week` of the behaviour, and `age` = target time - behaviour time in seconds.

    Args:
        features: cross features in order.
        cardinalities: feature name -> rows of its table.
        time: the schema's time column (unit and UTC offset).
        seed: of the start.
    """

    def __init__(
        self,
        features: Sequence[Feature],
        cardinalities: Mapping[str, int],
        time: TimeColumn,
        seed: int = 1,
        name: str = "cross_embedding",
    ) -> None:
        super().__init__(name=name)
        self.time = time
        self._features, self._cardinalities, self._seed = tuple(features), cardinalities, seed
        self.behaviour_features = tuple(f for f in features if f.derived != "age")
        self.relative_features = tuple(f for f in features if f.derived == "age")
        self.dims = {f.name: f.dim for f in (*self.behaviour_features, *self.relative_features)}
        self.rows = {f.name: cardinalities[f.name] for f in features}
        self.tables = {
            feature.name: self.add_weight(
                name=f"embedding_{feature.name}",
                shape=(cardinalities[feature.name], feature.dim),
                initializer=self.initializer(feature),
            )
            for feature in features
        }

    def initializer(self, feature: Feature) -> TableInitializer:
        """Where the feature's table starts."""
        return TableInitializer(CROSS_STDDEV, self._seed, f"{self.name}/{feature.name}")

    def behaviour_indices(self, history: History) -> dict[str, tf.Tensor]:
        """Indices of the features that belong to the behaviour alone, stored and derived.

        Args:
            history: as records and requests hold it.

        Returns:
            Feature -> int32 `(B, L)`, every index a row of its table.
        """
        indices = {}
        for feature in self.behaviour_features:
            if feature.derived is None:
                indices[feature.name] = known_rows(self.tables[feature.name], history.cross[feature.name])
            else:
                indices[feature.name] = clock_index(feature, history.time, self.time)
        return indices

    def compact(self, indices: Mapping[str, tf.Tensor]) -> CrossRows:
        """The tables as far as a batch needs them: small ones whole, of a large one the distinct rows of the batch.

        What is then computed once per row and gathered (`Relevance.bias_table`) costs no more the more rows a table
        has, and its gradient touches the rows of the batch alone. The scores are the same.

        Args:
            indices: of `behaviour_indices`.
        """
        rows, places = {}, dict(indices)
        for name, table in self.tables.items():
            if name in indices and self.rows[name] > LARGEST_WHOLE_TABLE:
                distinct, place = tf.unique(tf.reshape(indices[name], [-1]))
                rows[name] = gather_rows(table, distinct)
                places[name] = tf.reshape(place, tf.shape(indices[name]))
            else:
                rows[name] = tf.convert_to_tensor(table)
        return CrossRows(rows, places)

    @property
    def relative_boundaries(self) -> dict[str, list[int]]:
        """Feature that is relative to the target -> the ages at which its bucket changes, in the unit of the times."""
        return {
            feature.name: [
                math.ceil(boundary) * self.time.per_second for boundary in feature.encoding_or_fail.boundaries or ()
            ]
            for feature in self.relative_features
        }

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the same layer."""
        plain = _plain(self._features, self._cardinalities)
        return {**plain, "time": to_plain(self.time), "seed": self._seed, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "CrossEmbedding":
        """The layer of `get_config`."""
        time = build(TimeColumn, config["time"], "time")
        return cls(_features(config["features"]), config["cardinalities"], time, config["seed"], name=config["name"])


def clock_index(feature: Feature, time: tf.Tensor, column: TimeColumn) -> tf.Tensor:
    """Index of the hour of the day (0 to 23) or the day of the week (0 = Monday) of a time.

    Args:
        feature: a feature derived as `hour_of_day` or `day_of_week`.
        time: int64 in the unit of `column`.
        column: the schema's time column.

    Returns:
        int32 of the same shape.
    """
    seconds, steps = time // column.per_second, column.utc_offsets
    if len(steps.starts):  # a zone with summer time: the offset of each moment
        step = tf.searchsorted(tf.constant(steps.starts), tf.reshape(seconds, [-1]), side="right")
        seconds += tf.reshape(tf.gather(tf.constant(steps.offsets), step), tf.shape(seconds))
    else:
        seconds += int(steps.offsets[0])
    if feature.derived == "hour_of_day":
        value = (seconds // 3600) % 24
    else:
        value = (seconds // 86400 + 3) % 7  # 1970-01-01 was a Thursday
    return FIRST_KNOWN + tf.cast(value, tf.int32)


@keras.utils.register_keras_serializable("twin_tf")
class FeatureEmbedding(keras.layers.Layer):
    """One table of a user, context or candidate feature: int `(...)` -> float `(..., dim)`; `seed` sets its start."""

    def __init__(self, feature: Feature, cardinality: int, seed: int = 1) -> None:
        super().__init__(name=f"feature_{feature.name}")
        self._feature, self._cardinality, self._seed = feature, cardinality, seed
        self.table = self.add_weight(
            name=f"embedding_{feature.name}",
            shape=(cardinality, feature.dim),
            initializer=self.initializer(feature),
        )

    def initializer(self, feature: Feature) -> TableInitializer:
        """Where the feature's table starts."""
        return TableInitializer(CROSS_STDDEV, self._seed, f"{self.name}/{feature.name}")

    def call(self, index: tf.Tensor) -> tf.Tensor:
        """Looks the indices up; out of range is unknown."""
        return gather_rows(self.table, index)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the same layer."""
        return {**_plain([self._feature], {self._feature.name: self._cardinality}), "seed": self._seed}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "FeatureEmbedding":
        """The layer of `get_config`."""
        (feature,) = _features(config["features"])
        return cls(feature, config["cardinalities"][feature.name], config["seed"])
