"""Sections of the schema for events logs whose rows hold lists: of shown items, and of what a user did before."""

import dataclasses
from collections.abc import Collection, Mapping

from twin_tf.core.dataclass_yaml import ConfigError, nearest


@dataclasses.dataclass(frozen=True)
class Explode:
    """A row that lists the items of one impression becomes one event for each; its other columns are theirs alike.

    The item column of `events` names what each event gets from the list, its label column what `label_separator`,
    `clicked` or `labels` says of it; without any of these the label of the row is that of all its events.

    Attributes:
        items: column of the items that were shown: a list, or a text.
        separator: what stands between the values of a text; empty where the columns are lists (Parquet, JSON,
            BigQuery). It holds for every column that this section names.
        label_separator: what stands between item and label in each value, `-` in `N123-1`.
        clicked: column of those of the items that were clicked; they get the label 1, the others 0.
        labels: column of the labels in the order of the items.
        columns: column of the events -> column of its values in the order of the items.
        position: column that the events get: the place in the list, from 1.
    """

    items: str
    separator: str = ""
    label_separator: str = ""
    clicked: str | None = None
    labels: str | None = None
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    position: str | None = None

    def __post_init__(self) -> None:
        given = [n for n in ("label_separator", "clicked", "labels") if getattr(self, n)]
        if len(given) > 1:
            raise ConfigError(f"{given[0]} and {given[1]} both say which items were clicked; give one of them")

    @property
    def labels_items(self) -> bool:
        """Whether the section says the label of each item."""
        return bool(self.label_separator or self.clicked or self.labels)


@dataclasses.dataclass(frozen=True)
class CollectedHistory:
    """A row that holds a user's behaviours as lists, oldest first; each becomes a behaviour that is no target.

    Attributes:
        items: column of the items: a list, or a text. A row where it is empty collects nothing.
        separator: what stands between the values of a text; empty where the columns are lists.
        times: column of the behaviours' times, in the unit and format of the events' times. Without it a behaviour
            gets a time of its own, one unit after the one before it, the latest of them one unit before the row's time;
            of several such rows of a user the first counts alone, and none that other events of the user come before.
            If the row has no time, the user's first event takes its place.
        columns: column of the events -> column of its values in the order of the items, for cross features.
    """

    items: str
    separator: str = ""
    times: str | None = None
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)


def check_event_lists(
    explode: Explode | None,
    collected: CollectedHistory | None,
    own: Mapping[str, str],
    columns: Collection[str],
) -> None:
    """Whether what the lists fill is what the events have.

    Args:
        explode: the section, if there is one.
        collected: the section, if there is one.
        own: `user`, `item`, `time`, `label` -> its column.
        columns: all columns of the events.

    Raises:
        ConfigError: a column that nothing reads, or that something else fills.
    """
    for key, section in (("events.explode", explode), ("events.collected_history", collected)):
        if section is None:
            continue
        for column in section.columns:
            _check_filled(f"{key}.columns names", column, own, columns)
    if explode is not None and explode.position is not None:
        _check_filled("events.explode.position is", explode.position, own, columns)
        if explode.position in explode.columns:
            raise ConfigError(f"events.explode fills column {explode.position!r} twice: by columns and by position")


def _check_filled(what: str, column: str, own: Mapping[str, str], columns: Collection[str]) -> None:
    for name, filled in own.items():
        if column == filled:
            raise ConfigError(f"{what} {column!r}, the {name} column, which is filled already; leave it out there")
    if column not in columns:
        raise ConfigError(f"{what} {column!r}, which no feature or filter reads{nearest(column, columns)}")
