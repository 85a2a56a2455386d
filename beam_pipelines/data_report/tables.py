"""The tables of a data report: what its figures draw, as rows; `report.md` shows some, each is a CSV file."""

import csv
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

from beam_pipelines.data_report.rate_bins import interval, rate_bins
from beam_pipelines.data_report.summary import SPLITS, DataSummary


class Table(NamedTuple):
    """A head and rows of plain values; shares are numbers from 0 to 1, None where there is nothing to divide."""

    head: Sequence[str]
    rows: Sequence[Sequence[Any]]


def tables(summary: DataSummary) -> dict[str, Table]:
    """Every table, by the name of its CSV file."""
    return {
        "splits.csv": _splits(summary),
        "history_lengths.csv": Table(
            ("split", "from", "below", "targets"),
            [(name, *bin_) for name in SPLITS if name in summary.splits for bin_ in summary.splits[name].bins],
        ),
        "label_rate.csv": Table(
            ("first_day", "last_day", "targets", "clicks", "rate", "low_95", "high_95"),
            [
                (part.days[0].day, part.days[-1].day, part.targets, part.clicks, part.rate, *part.interval)
                for part in rate_bins(summary.days)
            ],
        ),
        "never_trained.csv": _new(summary),
        "coverage.csv": Table(("log", "column", "rows_with_a_value"), list(summary.columns())),
    }


def csv_text(table: Table) -> str:
    """A table as CSV; None is an empty cell, shares have six digits."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(table.head)
    writer.writerows([round(cell, 6) if isinstance(cell, float) else cell for cell in row] for row in table.rows)
    return stream.getvalue()


def _splits(summary: DataSummary) -> Table:
    rows = []
    for name in SPLITS:
        if name in summary.splits:
            split = summary.splits[name]
            low, high = interval(split.clicks, split.targets)
            shares = [
                _share(part, whole)
                for part, whole in (
                    (split.strangers, split.users),
                    (split.stranger_targets, split.targets),
                    (split.new_item_targets, split.targets),
                )
            ]
            rate = _share(split.clicks, split.targets)
            history = (split.median, split.p90) if split.targets else (None, None)
            rows.append((name, split.users, split.targets, split.clicks, rate, low, high, *shares, *history))
    head = ("split", "users", "targets", "clicks", "rate", "low_95", "high_95", "new_users")
    return Table((*head, "targets_of_new_users", "targets_of_new_items", "history_median", "history_p90"), rows)


def _new(summary: DataSummary) -> Table:
    rows = []
    for feature in summary.features:
        for name in SPLITS:
            found = summary.new_values(name, feature)
            if found is not None:
                rows.append((feature, name, *found))
    return Table(("feature", "split", "unknown", "known_but_never_trained"), rows)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
