"""One feature of the schema: its role, the raw column it comes from, and how a raw value becomes an index."""

import dataclasses
import math
from typing import Any, Literal

from twin_tf.core.dataclass_yaml import ConfigError

PADDING = 0
UNKNOWN = 1
FIRST_KNOWN = 2

ID_DIM, PLAIN_DIM = 64, 8
"""Widths of embeddings that a schema leaves open (TWIN, section 5.1)."""

Role = Literal["inherent", "cross", "user", "context", "candidate"]
Derivation = Literal["age", "hour_of_day", "day_of_week"]
ValueType = Literal["int", "float", "string"]
FeatureType = Literal["int", "float", "string", "bool"]
Counted = Literal["item_rate", "item_count", "user_rate", "user_count"]


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How a raw value becomes an index.

    Attributes:
        kind: `vocabulary` (values counted by the pipeline), `hash` (`buckets`), `numeric` (`boundaries`, or `quantiles`
            found by the pipeline) or `identity` (whole numbers 0 to `size` - 1).
        min_count: a vocabulary keeps values seen at least this often.
        source: where a vocabulary counts: `events` of the training window, or the rows of the `items` log (a catalogue
            that is known ahead of its sales, so new items keep an identity of their own).
        buckets: `hash` alone: how many indices the values are spread over.
        boundaries: `numeric` alone: rising numbers; a value's index says between which two of them it lies.
        quantiles: `numeric` alone: the pipeline finds boundaries that cut the training window into so many equal parts.
        size: `identity` alone: values are whole numbers from 0 to `size` - 1, any other is unknown.
    """

    kind: Literal["vocabulary", "hash", "numeric", "identity"]
    min_count: int = 1
    source: Literal["events", "items"] = "events"
    buckets: int | None = None
    boundaries: tuple[float, ...] | None = None
    quantiles: int | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        if self.min_count < 1:
            raise ConfigError(f"min_count must be at least 1, not {self.min_count}")
        if self.kind == "hash" and (self.buckets or 0) < 1:
            raise ConfigError("a hash encoding needs 'buckets'")
        if self.kind == "identity" and (self.size or 0) < 1:
            raise ConfigError("an identity encoding needs 'size'")
        if self.kind == "numeric":
            if (self.boundaries is None) == (self.quantiles is None):
                raise ConfigError("a numeric encoding needs either 'boundaries' or 'quantiles'")
            if self.boundaries is not None and not _rising(self.boundaries):
                raise ConfigError(f"boundaries must be one or more rising numbers, not {list(self.boundaries)}")
            if self.quantiles is not None and self.quantiles < 2:
                raise ConfigError(f"quantiles must be at least 2, not {self.quantiles}")

    @property
    def fitted(self) -> bool:
        """True if the pipeline must look at the data (vocabulary, quantiles) before it can encode."""
        return self.kind == "vocabulary" or self.quantiles is not None

    def cardinality(self) -> int:
        """Rows of the embedding table, padding and unknown included; only for encodings that are not `fitted`."""
        if self.kind == "hash":
            return FIRST_KNOWN + int(self.buckets or 0)
        if self.kind == "identity":
            return FIRST_KNOWN + int(self.size or 0)
        if self.boundaries is not None:
            return FIRST_KNOWN + len(self.boundaries) + 1
        raise ConfigError(f"the size of a {self.kind} encoding is only known after the pipeline has fitted it")


@dataclasses.dataclass(frozen=True)
class MultiValued:
    """How a feature of which an item has several values is read; the model takes the mean of their embeddings.

    Attributes:
        separator: what stands between the values of a text column; without one the column is a list (Parquet, JSON,
            BigQuery). Blanks around the parts of a text and empty parts are dropped, and so are repeated values.
        max_values: an item's first so many values are kept; the data report counts what is cut.
    """

    separator: str = ""
    max_values: int = 8

    def __post_init__(self) -> None:
        if self.max_values < 1:
            raise ConfigError(f"max_values must be at least 1, not {self.max_values}")

    def split(self, text: str) -> list[str]:
        """The values in a text."""
        parts = (part.strip() for part in text.split(self.separator))
        return [part for part in dict.fromkeys(parts) if part]


def _rising(numbers: tuple[float, ...]) -> bool:
    finite = all(math.isfinite(number) for number in numbers)
    return finite and len(numbers) > 0 and all(a < b for a, b in zip(numbers, numbers[1:], strict=False))


RESERVED_NAMES = {"item", "time", "length", "count", "label", "id", "history_end"}
"""What no feature may be called: records and requests use these names themselves."""

_DERIVED_ENCODINGS = {
    "hour_of_day": Encoding(kind="identity", size=24),
    "day_of_week": Encoding(kind="identity", size=7),
}


@dataclasses.dataclass(frozen=True)
class Feature:
    """One feature.

    Attributes:
        name: the name in records, tensors and signatures.
        role: `inherent` (a property of the item), `cross` (how the user met the item), `user`, `context` (of the
            request) or `candidate` (of what is shown at that moment and not for ever: its price now, its position).
        column: the raw column; the name if left out.
        type: the raw column's type; string for vocabulary and hash, float for numeric, int for identity if left out.
            `bool` reads booleans as 0 and 1, and needs no encoding.
        derived: computed in the graph from the times instead of read: `age` (target time minus behaviour time, in
            seconds; cross only), `hour_of_day` or `day_of_week` (of the behaviour for cross, of the target for
            context).
        encoding: how the value becomes an index; not for hour_of_day and day_of_week.
        dim: width of the embedding; 0 lets the schema choose, as the paper does: 64 for the ids of items and users, 8
            for everything else.
        multi_valued: set if an item has several values (inherent only); `{}` for a list column.
        keep_value: records keep the number beside its index, four bytes a behaviour (cross features with a numeric
            encoding only): `twin-tf cluster` needs it to average what the members of a cluster have.
        serve_as: the raw value that every candidate is served with, for what is unknown when ranking (candidate only);
            requests do not carry the feature then. Its index must follow from the schema alone: not with a vocabulary,
            nor with quantiles.
        counted: `from` in files: counted by the pipeline instead of read, over targets of earlier days (UTC). Of the
            item (candidate features): `item_rate`, its share of clicked targets, and `item_count`, its targets; of the
            user (context features) `user_rate` and `user_count`. They need boundaries.
        smoothing: how many targets at the rate of everything a rate starts with.
    """

    name: str
    role: Role
    column: str = ""
    type: FeatureType | None = None
    derived: Derivation | None = None
    encoding: Encoding | None = None
    dim: int = 0
    multi_valued: MultiValued | None = None
    keep_value: bool = False
    serve_as: Any = None
    counted: Counted | None = dataclasses.field(default=None, metadata={"key": "from"})
    smoothing: float = 10.0

    def __post_init__(self) -> None:
        if not self.name.replace("_", "").isalnum() or self.name in RESERVED_NAMES:
            raise ConfigError(
                f"feature name {self.name!r} must be letters, digits and _ and none of the reserved names"
            )
        if self.type == "bool" and self.derived is None and self.encoding is None:
            object.__setattr__(self, "encoding", Encoding(kind="identity", size=2))
        if self.derived is None and self.encoding is None:
            raise ConfigError(f"feature {self.name!r} needs an 'encoding'")
        if self.derived is not None:
            allowed = ("cross",) if self.derived == "age" else ("cross", "context")
            if self.role not in allowed:
                raise ConfigError(f"feature {self.name!r}: derived {self.derived} needs role {' or '.join(allowed)}")
            if self.derived in _DERIVED_ENCODINGS:
                if self.encoding not in (None, _DERIVED_ENCODINGS[self.derived]):
                    raise ConfigError(f"feature {self.name!r}: {self.derived} has an encoding of its own; leave it out")
                object.__setattr__(self, "encoding", _DERIVED_ENCODINGS[self.derived])
            elif self.encoding is None or self.encoding.boundaries is None:
                raise ConfigError(
                    f"feature {self.name!r}: derived age needs a numeric encoding with boundaries in seconds"
                )
        elif not self.column:
            object.__setattr__(self, "column", self.name)
        if self.dim < 0:
            raise ConfigError(f"feature {self.name!r}: dim must be at least 1, or left out, not {self.dim}")
        if self.multi_valued is not None:
            if self.role != "inherent":
                raise ConfigError(f"feature {self.name!r}: multi_valued needs role inherent, not {self.role}")
            if self.encoding_or_fail.kind == "numeric":
                raise ConfigError(
                    f"feature {self.name!r}: multi_valued needs a vocabulary, hash or identity encoding, not numeric"
                )
        stored_number = self.role == "cross" and self.derived is None and self.encoding_or_fail.kind == "numeric"
        if self.keep_value and not stored_number:
            raise ConfigError(f"feature {self.name!r}: keep_value needs role cross, a column and a numeric encoding")
        if self.type is None:
            types: dict[str, ValueType] = {"numeric": "float", "identity": "int"}
            object.__setattr__(self, "type", types.get(self.encoding_or_fail.kind, "string"))
        if self.serve_as is not None:
            self._check_serve_as(self.serve_as)
        if self.counted is not None:
            self._check_counted(self.counted)
        if self.smoothing != Feature.smoothing and not (self.counted or "").endswith("_rate"):
            raise ConfigError(f"feature {self.name!r}: smoothing needs from: item_rate or user_rate")
        if not (math.isfinite(self.smoothing) and self.smoothing > 0):
            raise ConfigError(f"feature {self.name!r}: smoothing must be a number above 0, not {self.smoothing}")

    def _check_counted(self, counted: Counted) -> None:
        """It has a role that says whose clicks are counted, bins, and no column of the logs."""
        start = f"feature {self.name!r}: from: {counted}"
        role = "candidate" if counted.startswith("item") else "context"
        if self.role != role:
            raise ConfigError(f"{start} needs role {role}, not {self.role}")
        if self.derived is not None or self.serve_as is not None or self.column != self.name or self.type != "float":
            raise ConfigError(f"{start} is counted: leave out column, type, derived and serve_as")
        if self.encoding_or_fail.boundaries is None:
            raise ConfigError(f"{start} needs a numeric encoding with boundaries")

    def _check_serve_as(self, value: Any) -> None:
        """The value is one that the encoding knows, whatever the pipeline finds in the logs."""
        encoding, start = self.encoding_or_fail, f"feature {self.name!r}: serve_as"
        if self.role != "candidate":
            raise ConfigError(f"{start} needs role candidate, not {self.role}")
        if encoding.fitted:
            raise ConfigError(f"{start} needs an encoding known ahead of the logs: boundaries, identity or hash")
        kinds: dict[ValueType, tuple[type, ...]] = {"int": (int,), "float": (int, float), "string": (str,)}
        if isinstance(value, bool) and self.type == "bool":
            value = int(value)
            object.__setattr__(self, "serve_as", value)
        if isinstance(value, bool) or not isinstance(value, kinds[self.value_type]):
            raise ConfigError(f"{start} is {value!r}, but the column is read as {self.type}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{start} must be a finite number, not {value}")
        size = encoding.size or 0
        if encoding.kind == "identity" and value not in range(size):
            raise ConfigError(f"{start} must be a whole number from 0 to {size - 1}, not {value!r}")
        if self.type == "float":
            object.__setattr__(self, "serve_as", float(self.serve_as))

    @property
    def value_type(self) -> ValueType:
        """As what the column is read."""
        return "int" if self.type == "bool" else self.type or "string"

    @property
    def max_values(self) -> int:
        """Values that an item has at most."""
        return 1 if self.multi_valued is None else self.multi_valued.max_values

    @property
    def encoding_or_fail(self) -> Encoding:
        """The encoding; every feature has one after construction."""
        if self.encoding is None:
            raise ConfigError(f"feature {self.name!r} has no encoding")
        return self.encoding
