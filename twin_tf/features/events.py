"""The columns that every row of an events log has: who, what, when, and whether it was clicked."""

import dataclasses
import re
from collections.abc import Collection
from typing import Any, Literal

from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.features.event_lists import CollectedHistory, Explode, check_event_lists
from twin_tf.features.event_times import TimeColumn

__all__ = ["Events", "IdColumn", "LabelColumn", "TimeColumn"]

_COMPARISON = re.compile(r"\s*(>=|>|<=|<)\s*(-?[0-9]+(?:\.[0-9]+)?)\s*")


@dataclasses.dataclass(frozen=True)
class IdColumn:
    """A column of ids.

    Attributes:
        column: its name in the log.
        type: `int` ids are used as they are, `string` ids become int64 by `encoders.hash_id`, in the pipeline and in
            the client.
    """

    column: str
    type: Literal["int", "string"] = "int"


@dataclasses.dataclass(frozen=True)
class LabelColumn:
    """The label: which raw values are allowed, and which of them are a click.

    Attributes:
        column: the raw column.
        values: those it may hold: whole numbers (booleans are 1 and 0), or text; a row with another one is malformed.
        positive: those of them that are a click; or a comparison such as `">= 4"` of any number, without `values`.
        missing: a row without a label is `malformed`, or `negative`: no click.
    """

    column: str
    values: tuple[Any, ...] = (0, 1)
    positive: Any = (1,)
    missing: Literal["malformed", "negative"] = "malformed"

    def __post_init__(self) -> None:
        if isinstance(self.positive, str):
            if _COMPARISON.fullmatch(self.positive) is None:
                raise ConfigError(
                    f"positive must be a list of values or a comparison such as '>= 4', not {self.positive!r}"
                )
            if self.values != LabelColumn.values:
                raise ConfigError(f"positive {self.positive!r} compares any number: leave values out")
            return
        for name in ("values", "positive"):
            given = getattr(self, name)
            if not isinstance(given, (list, tuple)):
                raise ConfigError(f"{name} must be a list of values, not {given!r}")
            object.__setattr__(self, name, tuple(one * 1 if isinstance(one, bool) else one for one in given))
        kinds = {type(one) for one in (*self.values, *self.positive)}
        if not (kinds <= {int} or kinds <= {str}):
            raise ConfigError(
                f"values {list(self.values)} and positive {list(self.positive)} must be all whole numbers or all text"
            )
        if not set(self.positive) < set(self.values):
            raise ConfigError(f"positive {list(self.positive)} must be some, not all, of values {list(self.values)}")

    @property
    def comparison(self) -> tuple[str, float] | None:
        """The operator and the number of a `positive` that compares; None of one that lists values."""
        found = _COMPARISON.fullmatch(self.positive) if isinstance(self.positive, str) else None
        return None if found is None else (found[1], float(found[2]))

    @property
    def type(self) -> Literal["int", "float", "string"]:
        """As what the column is read."""
        if self.comparison is not None:
            return "float"
        return "string" if isinstance(self.values[0], str) else "int"


@dataclasses.dataclass(frozen=True)
class Events:
    """The columns every event row must have.

    Attributes:
        user: who.
        item: what.
        time: when.
        label: clicked or not.
        request: which events were shown together, if the log says so; for the metrics by request alone.
        deduplicate: of several rows with one user, item and time keep one: a click before a view, a target before none.
        explode: rows list the items that were shown together.
        collected_history: rows list what a user did before.
    """

    user: IdColumn
    item: IdColumn
    time: TimeColumn
    label: LabelColumn
    request: IdColumn | None = None
    deduplicate: bool = False
    explode: Explode | None = None
    collected_history: CollectedHistory | None = None

    def check_lists(self, columns: Collection[str]) -> None:
        """Whether what the lists of rows fill is what the events (`columns`) have.

        Raises:
            ConfigError: it is not.
        """
        own = {name: getattr(self, name).column for name in ("user", "item", "time", "label")}
        check_event_lists(self.explode, self.collected_history, own, columns)
