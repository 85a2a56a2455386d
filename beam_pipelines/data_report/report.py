"""The data report: what people look at before they train.

    python -m beam_pipelines.data_report prepared

reads `report.json` of a prepared directory, anywhere Beam can read, and writes beside it `report.md` and its figures
(history lengths, label rate a day, unknown values, coverage). The same `report.json` gives the same bytes. Workers are
light: without matplotlib the page is written all the same, and says that its figures are missing.
"""

import argparse
import datetime
import importlib.util
import sys
from collections.abc import Callable

from apache_beam.io.filesystems import FileSystems

from beam_pipelines.data_report.summary import (
    REPORT,
    SPLITS,
    DataSummary,
    number,
    parse,
    percent,
    reading_of_coverage,
    reading_of_history_lengths,
    reading_of_label_rate,
    reading_of_unknown,
)
from beam_pipelines.io.record_writer import write_file
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.errors import UserError
from twin_tf.core.markdown import plain, table
from twin_tf.core.yaml_text import parse_yaml
from twin_tf.features.schema import schema_from_mapping
from twin_tf.records.format import SCHEMA

PAGE = "report.md"

_SECTIONS: tuple[tuple[str, str, str, Callable[[DataSummary], str]], ...] = (
    (
        "History lengths",
        "history_lengths.png",
        "Users by the number of their behaviours",
        reading_of_history_lengths,
    ),
    ("Label rate a day", "label_rate.png", "Share of clicked targets a day", reading_of_label_rate),
    ("Unknown values", "unknown_rate.png", "Share of unknown values by feature", reading_of_unknown),
    ("Coverage", "coverage.png", "Share of rows with a value by column", reading_of_coverage),
)


def write_report(directory: str) -> list[str]:
    """Writes `report.md` and the figures beside a `report.json`.

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
    offset_hours = _utc_offset_hours(directory)
    figures: dict[str, bytes] = {}
    if importlib.util.find_spec("matplotlib") is not None:
        from beam_pipelines.data_report.figures import draw

        figures = draw(summary, offset_hours)
    files = {PAGE: page(summary, bool(figures)).encode("utf-8"), **figures}
    for name, content in files.items():
        write_file(directory, name, content)
    return [FileSystems.join(directory, name) for name in files]


def page(summary: DataSummary, with_figures: bool = True) -> str:
    """The text of `report.md`.

    Args:
        summary: what to report.
        with_figures: whether the figures lie beside it.
    """
    lines = [f"# Data report: {plain(summary.schema)}", ""]
    if summary.warnings:
        lines += ["## Warnings", "", *(f"* {plain(warning)}" for warning in summary.warnings), ""]
    if not with_figures:
        lines += [
            "There are no figures, because matplotlib is not installed where this page was written. Where it is,",
            "`python -m beam_pipelines.data_report <this directory>` adds them.",
            "",
        ]
    lines += ["## Summary", "", *table(("what", "how much"), _summary_rows(summary)), ""]
    for title, figure, alternative, reading in _SECTIONS:
        lines += [f"## {title}", ""]
        lines += [f"![{alternative}]({figure})", ""] if with_figures else []
        lines += [reading(summary), ""]
        if figure == "unknown_rate.png" and summary.features:
            lines += [*_unknown_table(summary), ""]
        if figure == "coverage.png" and any(summary.coverage.values()):
            rows = [(log, plain(column), percent(share)) for log, column, share in summary.columns()]
            lines += [*table(("log", "column", "rows with a value"), rows), ""]
    return "\n".join(lines)


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
    rows += [
        ("valid begins (UTC)", _timestamp(summary, summary.split.valid_from)),
        ("test begins (UTC)", _timestamp(summary, summary.split.test_from)),
    ]
    for name in (*SPLITS, "histories"):
        size, stored = summary.bytes.get(name, 0), summary.events_stored.get(name, 0)
        each = f", {size / stored:.1f} a stored behaviour" if stored else ""
        rows.append((f"bytes of {name}", number(size) + each))
    return [*rows, ("schema", f"{plain(summary.schema)}, fingerprint {plain(summary.fingerprint)}")]


def _unknown_table(summary: DataSummary) -> list[str]:
    rows = []
    for feature in summary.features:
        shares = [summary.unknown.get(split, {}).get(feature) for split in SPLITS]
        rows.append((plain(feature), *("-" if share is None else percent(share) for share in shares)))
    return table(("feature", *(f"unknown in {split}" for split in SPLITS)), rows)


def _of(part: int, whole: int) -> str:
    return f"{number(part)} ({percent(part / whole)})" if whole else number(part)


def _timestamp(summary: DataSummary, timestamp: int) -> str:
    try:
        found = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=summary.seconds(timestamp))
    except OverflowError:
        return str(timestamp)
    return found.isoformat(" ", "seconds")


def _utc_offset_hours(directory: str) -> float:
    """How far the local days are ahead of UTC, from the schema beside the report; 0 without one."""
    text = _read(FileSystems.join(directory, SCHEMA))
    if text is None:
        return 0.0
    return schema_from_mapping(parse_yaml(text, f"{directory}/{SCHEMA}")).events.time.utc_offset_hours


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
