"""The data report: what people look at before they train.

    python -m beam_pipelines.data_report prepared

reads `report.json` of a prepared directory, anywhere Beam can read, and writes beside it `report.md`, its tables as CSV
and its figures (history lengths, label rate, what training never sees, coverage); a figure that would be empty is not
drawn. The same `report.json` gives the same bytes. Workers are light: without matplotlib the page is written all the
same, and says that its figures are missing.
"""

import argparse
import datetime
import importlib.util
import sys
from collections.abc import Callable, Collection

from apache_beam.io.filesystems import FileSystems

from beam_pipelines.data_report.rate_bins import interval
from beam_pipelines.data_report.readings import (
    reading_of_coverage,
    reading_of_history_lengths,
    reading_of_label_rate,
    reading_of_new,
    readings_of_split,
)
from beam_pipelines.data_report.summary import (
    REPORT,
    SPLITS,
    DataSummary,
    number,
    parse,
    percent,
)
from beam_pipelines.data_report.tables import csv_text, tables
from beam_pipelines.io.record_writer import write_file
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.errors import UserError
from twin_tf.core.markdown import plain, table
from twin_tf.core.yaml_text import parse_yaml
from twin_tf.features.schema import schema_from_mapping
from twin_tf.features.time_zones import UtcOffsets, fixed_offset
from twin_tf.records.format import SCHEMA

PAGE = "report.md"

_SECTIONS: tuple[tuple[str, str, str, Callable[[DataSummary], str]], ...] = (
    (
        "History lengths",
        "history_lengths.png",
        "Targets by the number of behaviours that they see",
        reading_of_history_lengths,
    ),
    ("Label rate", "label_rate.png", "Share of clicked targets over time", reading_of_label_rate),
    (
        "Unknown or never trained",
        "never_trained.png",
        "Share of users, items and values that training never sees",
        reading_of_new,
    ),
    ("Coverage", "coverage.png", "Share of rows with a value by column", reading_of_coverage),
)


def write_report(directory: str) -> list[str]:
    """Writes `report.md`, the tables and the figures beside a `report.json`.

    Args:
        directory: the prepared directory, on any of Beam's file systems.

    Returns:
        The paths that were written, the page first.

    Raises:
        ConfigError: there is no `report.json`, or it is not one.
    """
    place = FileSystems.join(directory, REPORT)
    text = _read(place)
    if text is None:
        raise ConfigError(f"{directory} has no {REPORT}, which `twin-tf preprocess` writes; preprocess again")
    summary = parse(text, place)
    offsets = _utc_offsets(directory)
    figures: dict[str, bytes] | None = None
    if importlib.util.find_spec("matplotlib") is not None:
        from beam_pipelines.data_report.figures import draw

        figures = draw(summary, offsets)
    files = {PAGE: page(summary, figures).encode("utf-8"), **(figures or {})}
    files.update({name: csv_text(found).encode("utf-8") for name, found in tables(summary).items()})
    for name, content in files.items():
        write_file(directory, name, content)
    return [FileSystems.join(directory, name) for name in files]


def page(summary: DataSummary, figures: Collection[str] | None) -> str:
    """The text of `report.md`.

    Args:
        summary: what to report.
        figures: the names of those that lie beside it; None where nothing could draw any.
    """
    lines = [f"# Data report: {plain(summary.schema)}", ""]
    if summary.warnings:
        lines += ["## Warnings", "", *(f"* {plain(warning)}" for warning in summary.warnings), ""]
    if figures is None:
        lines += [
            "There are no figures, because matplotlib is not installed where this page was written. Where it is,",
            "`python -m beam_pipelines.data_report <this directory>` adds them.",
            "",
        ]
    lines += ["## Summary", "", *table(("what", "how much"), _summary_rows(summary)), ""]
    lines += ["## Splits", "", *(f"* {sentence}" for sentence in readings_of_split(summary)), ""]
    if summary.splits:
        lines += [*_split_table(summary), ""]
    for title, figure, alternative, reading in _SECTIONS:
        lines += [f"## {title}", ""]
        lines += [f"![{alternative}]({figure})", ""] if figure in (figures or ()) else []
        lines += [reading(summary), ""]
        if figure == "never_trained.png" and summary.features:
            lines += [*_new_table(summary), ""]
        if figure == "coverage.png" and any(summary.coverage.values()):
            rows = [(log, plain(column), percent(share)) for log, column, share in summary.columns()]
            lines += [*table(("log", "column", "rows with a value"), rows), ""]
    named = ", ".join(f"[{name}]({name})" for name in tables(summary))
    return "\n".join([*lines, f"The same as tables: {named}; all of it: [{REPORT}]({REPORT}).", ""])


def _split_table(summary: DataSummary) -> list[str]:
    rows: dict[str, list[str]] = {}
    names = [name for name in SPLITS if name in summary.splits]
    for split in (summary.splits[name] for name in names):
        low, high = interval(split.clicks, split.targets)
        rate = f"{percent(split.clicks / split.targets)} ({percent(low)} to {percent(high)})" if split.targets else "-"
        for what, much in (
            ("users", number(split.users)),
            ("targets", number(split.targets)),
            ("clicked targets (95 % interval)", rate),
            ("users that training never sees", _of(split.strangers, split.users)),
            ("targets of such users", _of(split.stranger_targets, split.targets)),
            ("targets of items that training never sees", _of(split.new_item_targets, split.targets)),
            ("behaviours that a target sees, median", number(split.median) if split.targets else "-"),
            ("behaviours that a target sees, p90", number(split.p90) if split.targets else "-"),
        ):
            rows.setdefault(what, []).append(much)
    return table(("", *names), [(what, *much) for what, much in rows.items()])


def _summary_rows(summary: DataSummary) -> list[tuple[str, str]]:
    counts = summary.counts
    filtered = _of(counts.events_filtered, counts.events_read)
    if counts.events_duplicated:
        filtered += f", {number(counts.events_duplicated)} of them duplicates"
    rows = [
        ("events read", number(counts.events_read)),
        ("events kept", _of(counts.events_kept, counts.events_read)),
        ("events filtered out", filtered),
        ("events malformed", _of(counts.events_dead, counts.events_read)),
    ]
    if counts.events_late:
        rows.append(("events that came late", number(counts.events_late)))
    for log, read, dead in (
        ("items", counts.items_read, counts.items_dead),
        ("users", counts.users_read, counts.users_dead),
    ):
        if read:
            rows.append((f"rows of the {log} log", f"{number(read)}, {number(dead)} of them malformed"))
    rows += [
        ("users with events", number(counts.users)),
        ("items in the catalogue", number(counts.items)),
        *(
            (
                f"values of {plain(name)} beyond max_values",
                f"{number(lost['values'])}, of {number(lost['items'])} items",
            )
            for name, lost in summary.cut.items()
        ),
        ("behaviours in these logs", number(counts.behaviours)),
        ("behaviours a user ever, on average", number(summary.history_lengths.mean)),
    ]
    if summary.days:
        rows.append(("days", f"{summary.days[0].day} to {summary.days[-1].day}, {len(summary.days)} with events"))
    all_targets = sum(counts.targets.values()) + counts.targets_in_gaps
    rows += [(f"targets in {split}", _of(counts.targets.get(split, 0), all_targets)) for split in SPLITS]
    if counts.targets_in_gaps:
        rows.append(("targets in the gaps between the splits", _of(counts.targets_in_gaps, all_targets)))
    if summary.split.by == "time":
        rows += [
            ("valid begins (UTC)", _timestamp(summary, summary.split.valid_from)),
            ("test begins (UTC)", _timestamp(summary, summary.split.test_from)),
        ]
    for name in (*SPLITS, "histories"):
        size, stored = summary.bytes.get(name, 0), summary.events_stored.get(name, 0)
        each = f", {size / stored:.1f} a stored behaviour" if stored else ""
        rows.append((f"bytes of {name}", number(size) + each))
    return [*rows, ("schema", f"{plain(summary.schema)}, fingerprint {plain(summary.fingerprint)}")]


def _new_table(summary: DataSummary) -> list[str]:
    rows = []
    for feature in summary.features:
        cells = []
        for found in (summary.new_values(split, feature) for split in SPLITS):
            extra = f" + {percent(found[1])}" if found is not None and found[1] else ""
            cells.append("-" if found is None else percent(found[0]) + extra)
        rows.append((plain(feature), *cells))
    return table(("feature: values unknown + known but never trained", *SPLITS), rows)


def _of(part: int, whole: int) -> str:
    return f"{number(part)} ({percent(part / whole)})" if whole else number(part)


def _timestamp(summary: DataSummary, timestamp: int) -> str:
    try:
        found = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=summary.seconds(timestamp))
    except OverflowError:
        return str(timestamp)
    return found.isoformat(" ", "seconds")


def _utc_offsets(directory: str) -> UtcOffsets:
    """How far the local days are ahead of UTC, from the schema beside the report; not at all without one."""
    text = _read(FileSystems.join(directory, SCHEMA))
    if text is None:
        return fixed_offset(0)
    return schema_from_mapping(parse_yaml(text, f"{directory}/{SCHEMA}")).events.time.utc_offsets


def _read(path: str) -> str | None:
    if not FileSystems.exists(path):
        return None
    with FileSystems.open(path) as stream:
        return str(stream.read().decode("utf-8"))


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m beam_pipelines.data_report",
        description=f"Writes {PAGE} and its figures beside {REPORT}.",
    )
    parser.add_argument("directory", help=f"a prepared directory that holds {REPORT}; local, or any that Beam knows")
    try:
        written = write_report(parser.parse_args(arguments).directory)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join(written))
    return 0
