"""The feature schema: what the raw logs hold, what each column means to the model, and how it becomes an index.

A schema is written in YAML and travels with everything made from it (prepared data, run, exported model). This module
imports no TensorFlow, so pipelines and clients share it.

Index space of every feature: row 0 is padding, row 1 is unknown (OOV), known values start at row 2.

Example:
    >>> schema = load_schema("twin_tf/configs/complete_journey.yaml")
    >>> [feature.name for feature in schema.inherent]
    ['product', 'category', 'department', 'brand', 'manufacturer']
"""

import dataclasses
import hashlib
import json
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

from twin_tf.core.dataclass_yaml import ConfigError, build, nearest, to_plain
from twin_tf.core.yaml_text import read_yaml
from twin_tf.features.events import Events, IdColumn, TimeColumn
from twin_tf.features.feature import (
    FIRST_KNOWN,
    ID_DIM,
    PADDING,
    PLAIN_DIM,
    UNKNOWN,
    Encoding,
    Feature,
    MultiValued,
    Role,
    ValueType,
)
from twin_tf.features.log_files import CsvFiles
from twin_tf.features.sections import LONGEST_HISTORY, History, Split, SplitBy, Targets

__all__ = [
    "FIRST_KNOWN",
    "LONGEST_HISTORY",
    "PADDING",
    "UNKNOWN",
    "Encoding",
    "Events",
    "Feature",
    "FeatureSchema",
    "History",
    "IdColumn",
    "MultiValued",
    "Role",
    "Split",
    "SplitBy",
    "Targets",
    "TimeColumn",
    "ValueType",
    "load_schema",
    "schema_from_mapping",
]


PIPELINE_NAMES = {"user", "item_id", "flags", "earlier", "split"}
"""What lies beside the stored features of an event, so that none of them may be called so."""


@dataclasses.dataclass(frozen=True)
class FeatureSchema:
    """The whole schema.

    Attributes:
        name: of the data, for people.
        events: the columns of the events log.
        features: what the model sees, in the order of concatenation in the model; at least one is inherent.
        items: the id column of the items log; needed for inherent features other than the item id.
        users: the id column of the users log; needed for user features.
        history: which events are behaviours.
        targets: which events are predicted.
        split: which targets train, validate and test.
    """

    name: str
    events: Events
    features: tuple[Feature, ...]
    items: IdColumn | None = None
    users: IdColumn | None = None
    history: History = dataclasses.field(default_factory=History)
    targets: Targets = dataclasses.field(default_factory=Targets)
    split: Split = dataclasses.field(default_factory=Split)
    csv: CsvFiles = dataclasses.field(default_factory=CsvFiles)

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", tuple(self._with_width(f) for f in self.features))
        names = [f.name for f in self.features]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"feature {name!r} is listed twice")
        if not self.inherent:
            raise ConfigError("at least one inherent feature is needed: the relevance of an item starts from them")
        if self.users is None and any(f.role == "user" for f in self.features):
            raise ConfigError("user features need a users log: give 'users: {column: <its id column>}'")
        for log, mine, theirs in (("items", self.items, self.events.item), ("users", self.users, self.events.user)):
            if mine is not None and mine.type != theirs.type:
                raise ConfigError(
                    f"{log}.type is {mine.type}, the events' is {theirs.type}: the same ids need one type"
                )
        logged = [f.name for f in self.requested_candidate if f.counted is None]
        if self.targets.negatives is not None and logged:
            raise ConfigError(
                f"targets.negatives cannot draw values of candidate feature {logged[0]!r}: "
                "no row has them for an item that was not shown; leave either out"
            )
        self._check_own_columns()
        self._check_filters()
        self.events.check_lists(self.event_columns())
        self.item_columns(), self.user_columns(), self.multi_valued_columns()  # each column has one type
        item_id = self.items.column if self.items is not None else None
        if item_id is None and any(f.column != self.events.item.column for f in self.inherent):
            raise ConfigError("inherent features other than the item id need an items log: give 'items: {column: ...}'")

    def _with_width(self, feature: Feature) -> Feature:
        """A feature with the width of its embedding, where the file leaves it open."""
        if feature.dim:
            return feature
        return dataclasses.replace(feature, dim=ID_DIM if feature.column in self._ids(feature.role) else PLAIN_DIM)

    def _ids(self, role: Role) -> set[str]:
        """The columns of the ids that inherent or user features may be made of."""
        ids = {"inherent": (self.items, self.events.item), "user": (self.users, self.events.user)}
        return {column.column for column in ids.get(role, ()) if column is not None}

    def _check_own_columns(self) -> None:
        """The columns of an event that are no features are read as what they must be, and their names are free."""
        columns, stored = self.event_columns(), {f.name: f.role for f in (*self.stored_cross, *self.stored_target)}
        for name in sorted(PIPELINE_NAMES & stored.keys()):
            raise ConfigError(f"a {stored[name]} feature cannot be called {name!r}, as the pipelines use it: rename it")
        words = {"int": "a whole number", "float": "a number", "string": "text"}
        for key, column, type_ in self._own_columns():
            what = "split" if key == "split.column" else key.split(".")[1]
            if columns[column] != type_:
                raise ConfigError(
                    f"{key} reads column {column!r} as {words[type_]}, but it is read as {columns[column]} elsewhere: "
                    f"give the {what} a column of its own"
                )
            if what != "split" and what in stored:
                raise ConfigError(
                    f"a {stored[what]} feature cannot be called {what!r} beside {key}: rename the feature"
                )

    def _own_columns(self) -> list[tuple[str, str, ValueType]]:
        """Key of the schema, column and type of what an event says beside ids, time, label and features."""
        request = self.events.request
        found: list[tuple[str, str | None, ValueType]] = [
            ("targets.weight", self.targets.weight, "float"),
            ("split.column", self.split.column, "string"),
            ("events.request", None, "int") if request is None else ("events.request", request.column, request.type),
        ]
        return [(key, column, type_) for key, column, type_ in found if column is not None]

    def _check_filters(self) -> None:
        """A filter's values must be of the type its column is read as, else no row could ever match."""
        kinds: dict[ValueType, tuple[type, ...]] = {"int": (int,), "float": (int, float), "string": (str,)}
        columns = self.event_columns()
        for name, where in (("history", self.history.where), ("targets", self.targets.where)):
            for column, values in where.items():
                for value in values:
                    if isinstance(value, bool) or not isinstance(value, kinds[columns[column]]):
                        raise ConfigError(f"{name}.where.{column} holds {value!r}, but the column is {columns[column]}")

    def of_role(self, role: Role) -> tuple[Feature, ...]:
        """The features of one role, in order."""
        return tuple(f for f in self.features if f.role == role)

    @cached_property
    def inherent(self) -> tuple[Feature, ...]:
        """Item features, the H of K_h."""
        return self.of_role("inherent")

    @cached_property
    def item_ids(self) -> tuple[str, ...]:
        """Inherent features made of the item's id; they tell an item from all others."""
        return tuple(f.name for f in self.inherent if f.column in self._ids("inherent"))

    @cached_property
    def cross(self) -> tuple[Feature, ...]:
        """All cross features, the J columns of K_c: stored, derived from the behaviour's time, and relative."""
        return self.of_role("cross")

    @cached_property
    def stored_cross(self) -> tuple[Feature, ...]:
        """Cross features that records and requests carry as `history/<name>`."""
        return tuple(f for f in self.cross if f.derived is None)

    @cached_property
    def kept_values(self) -> tuple[Feature, ...]:
        """Cross features whose numbers records keep beside their indices, as `value/<name>`."""
        return tuple(f for f in self.stored_cross if f.keep_value)

    @cached_property
    def user(self) -> tuple[Feature, ...]:
        """User features, `user/<name>`."""
        return self.of_role("user")

    @cached_property
    def context(self) -> tuple[Feature, ...]:
        """All context features."""
        return self.of_role("context")

    @cached_property
    def stored_context(self) -> tuple[Feature, ...]:
        """Context features that records carry as `target/<name>`, and requests once for all candidates."""
        return tuple(f for f in self.context if f.derived is None)

    @cached_property
    def candidate(self) -> tuple[Feature, ...]:
        """Candidate features, which records carry as `target/<name>`."""
        return self.of_role("candidate")

    @cached_property
    def requested_candidate(self) -> tuple[Feature, ...]:
        """Candidate features that requests carry for each candidate: all but those with `serve_as`."""
        return tuple(f for f in self.candidate if f.serve_as is None)

    @cached_property
    def of_target(self) -> tuple[Feature, ...]:
        """What is known of a target beside user and item: context and candidate features."""
        return (*self.context, *self.candidate)

    @cached_property
    def stored_target(self) -> tuple[Feature, ...]:
        """Those features of a target that records carry as `target/<name>`."""
        return (*self.stored_context, *self.candidate)

    @cached_property
    def logged_target(self) -> tuple[Feature, ...]:
        """Those of them that are columns of the events log."""
        return tuple(f for f in self.stored_target if f.counted is None)

    @cached_property
    def counted_item(self) -> tuple[Feature, ...]:
        """Candidate features counted of the item, which the catalogue holds as of the end of the data."""
        return tuple(f for f in self.candidate if f.counted is not None)

    @cached_property
    def counted_user(self) -> tuple[Feature, ...]:
        """Context features counted of the user."""
        return tuple(f for f in self.context if f.counted is not None)

    @property
    def counts_days(self) -> bool:
        """Whether the pipeline has to know what happened to items on earlier days."""
        return bool(self.targets.negatives is not None or self.counted_item or self.counted_user)

    def to_plain(self) -> dict[str, Any]:
        """The mapping that `build` reads back."""
        plain: dict[str, Any] = to_plain(self)
        return plain

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that change whenever anything in the schema does."""
        return _fingerprint(self.to_plain())

    @cached_property
    def contents_fingerprint(self) -> str:
        """16 hex digits that change whenever the meaning of an index, a time or a width may.

        So with anything but what `contents` leaves out; runs that continue each other share them.
        """
        return _fingerprint(self.contents.to_plain())

    @cached_property
    def contents(self) -> "FeatureSchema":
        """The schema without what neither an encoding nor a model knows of.

        So without `split`, `csv`, `events.request`, `events.explode` and `events.collected_history`.
        """
        events = dataclasses.replace(self.events, request=None, explode=None, collected_history=None)
        return dataclasses.replace(self, split=Split(), csv=CsvFiles(), events=events)

    def trains_like(self, other: "FeatureSchema") -> bool:
        """Whether training cannot tell the two apart: the split and all that `contents` keeps are the same."""
        return (self.contents_fingerprint, self.split) == (other.contents_fingerprint, other.split)

    def clustered(self, clustered: bool) -> "FeatureSchema":
        """The same with `history.clustered` as said: the schema of what `twin-tf cluster` makes of prepared data."""
        return dataclasses.replace(self, history=dataclasses.replace(self.history, clustered=clustered))

    def event_columns(self) -> dict[str, ValueType]:
        """Raw column -> type, for every column that an event row must have."""
        events = self.events
        columns: dict[str, ValueType] = {
            events.user.column: events.user.type,
            events.item.column: events.item.type,
            events.time.column: "int" if events.time.format is None else "string",
            events.label.column: events.label.type,
        }
        _add_columns(columns, (*self.stored_cross, *self.logged_target))
        for _, column, type_ in self._own_columns():
            columns.setdefault(column, type_)
        for where in (self.history.where, self.targets.where):
            for column, values in where.items():
                columns.setdefault(column, "int" if all(isinstance(v, int) for v in values) else "string")
        return columns

    def item_columns(self) -> dict[str, ValueType]:
        """Raw column -> type of its values in the items log; the id column first, empty without an items log."""
        if self.items is None:
            return {}
        columns: dict[str, ValueType] = {self.items.column: self.items.type}
        return _add_columns(columns, self.inherent)

    def multi_valued_columns(self) -> dict[str, str]:
        """Raw column of the items log that holds several values -> what separates them; empty for a list column."""
        found: dict[str, str | None] = {(self.items or self.events.item).column: None}
        for feature in self.inherent:
            separator = None if feature.multi_valued is None else feature.multi_valued.separator
            if found.setdefault(feature.column, separator) != separator:
                raise ConfigError(
                    f"feature {feature.name!r} and another reader of column {feature.column!r} split it differently: "
                    "give both the same 'multi_valued.separator', and none to an id"
                )
        return {column: separator for column, separator in found.items() if separator is not None}

    @cached_property
    def inherent_slices(self) -> dict[str, slice]:
        """Inherent feature -> its columns in the matrix of item features, `max_values` of a multi-valued one."""
        stops = list(accumulate(feature.max_values for feature in self.inherent))
        return {f.name: slice(stop - f.max_values, stop) for f, stop in zip(self.inherent, stops, strict=True)}

    def user_columns(self) -> dict[str, ValueType]:
        """Raw column -> type of the users log; the id column first, empty without a users log."""
        if self.users is None:
            return {}
        columns: dict[str, ValueType] = {self.users.column: self.users.type}
        return _add_columns(columns, self.user)

    def feature(self, name: str) -> Feature:
        """The feature called `name`.

        Raises:
            ConfigError: there is none; the nearest name is given.
        """
        for feature in self.features:
            if feature.name == name:
                return feature
        raise ConfigError(f"no feature {name!r}{nearest(name, [f.name for f in self.features])}")


def _add_columns(columns: dict[str, ValueType], features: tuple[Feature, ...]) -> dict[str, ValueType]:
    """Adds the columns of features; a column that is there (an id, the time, the label) keeps its type."""
    own = set(columns)
    for feature in features:
        kind = feature.value_type
        if feature.column not in own and columns.setdefault(feature.column, kind) != kind:
            raise ConfigError(
                f"feature {feature.name!r} reads column {feature.column!r} as {kind}, another one as "
                f"{columns[feature.column]}: give both the same 'type'"
            )
    return columns


def _fingerprint(plain: dict[str, Any]) -> str:
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def schema_from_mapping(data: Any) -> FeatureSchema:
    """Builds a schema from a plain mapping (what YAML or a manifest holds)."""
    return build(FeatureSchema, data, "schema")


def load_schema(path: str | Path) -> FeatureSchema:
    """Reads a schema from its own YAML file, or from the `schema` section of a configuration file.

    Raises:
        ConfigError: the file cannot be read, or breaks a rule.
    """
    data = read_yaml(path)
    return schema_from_mapping(data.get("schema", data))
