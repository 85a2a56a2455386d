"""The columns that every row of an events log has: who, what, when, and whether it was clicked."""

import dataclasses
from collections.abc import Collection
from typing import Literal

from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.features.event_lists import CollectedHistory, Explode, check_event_lists


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
class TimeColumn:
    """The event time. Records and requests keep the unit of the logs.

    Attributes:
        column: a whole number of `unit` since 1970 (UTC).
        unit: seconds or milliseconds.
        utc_offset_hours: what `hour_of_day` and `day_of_week` add to UTC: local time without summer time.
    """

    column: str
    unit: Literal["s", "ms"] = "s"
    utc_offset_hours: float = 0.0

    @property
    def per_second(self) -> int:
        """Time units in a second."""
        return 1000 if self.unit == "ms" else 1


@dataclasses.dataclass(frozen=True)
class LabelColumn:
    """The label.

    Attributes:
        column: its name in the log.
        values: which raw values are allowed; a row with another one is malformed.
        positive: which of them are a click.
    """

    column: str
    values: tuple[int, ...] = (0, 1)
    positive: tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        if not set(self.positive) < set(self.values):
            raise ConfigError(f"positive {list(self.positive)} must be some, not all, of values {list(self.values)}")


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
