"""What people read after a demo, finished or not: `report.md` and its PNG plots; programs read `report.json`."""

import dataclasses
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from twin_tf.core.files import JsonDict, write_json, write_whole
from twin_tf.core.markdown import plain, table
from twin_tf.core.plots import COLOURS, MARKERS, Line, Quality, length_lines, new_figure, png, quality_dots
from twin_tf.core.result_cache import unused_section
from twin_tf.evaluation.slices import as_csv
from twin_tf.evaluation.verdicts import best_yardstick, not_beaten
from twin_tf.experiments.comparison.summaries import noise_text, paired_gauc
from twin_tf.experiments.shipped_data import ShippedData
from twin_tf.experiments.subprocess_runner import Steps
from twin_tf.training.table_report import HEAD, table_rows, worthless_tables


@dataclasses.dataclass
class Done:
    """What has come of a demo so far.

    Attributes:
        steps: what was run.
        systems: key -> metrics of the test split.
        yardsticks: what needs no network -> its metrics there, see `twin_tf.evaluation.yardsticks`.
        nearest: well-known items and those that are nearest, of `nearest_items`.
        exported: what the export said.
        served: what the replay said.
    """

    steps: Steps
    systems: dict[str, JsonDict] = dataclasses.field(default_factory=dict)
    yardsticks: dict[str, JsonDict] = dataclasses.field(default_factory=dict)
    nearest: JsonDict | None = None
    exported: JsonDict | None = None
    served: JsonDict | None = None


def build_report(data: ShippedData, done: Done, commit: str, failed: JsonDict | None) -> JsonDict:
    """The content of `report.json`, and `latencies_ms`.

    Args:
        data: of the demo.
        done: what there is; figures of what is missing are left out.
        commit: of the code that writes the report.
        failed: `step`, `why` and the `command` that goes on; None if nothing failed.
    """
    twin = done.systems.get("twin")
    report = {
        "title": f"TWIN on {data.title}",
        "commit": commit,
        "load": {"data": data.config, **({} if twin is None else {"epochs": twin["epochs"]})},
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.system()},
        "systems": {system["label"]: system for system in done.systems.values()},
        "paired": _leads(done.systems),
        "yardsticks": done.yardsticks,
        "findings": _findings(done),
        "figures": [dict(zip(("name", "value", "unit", "how"), row, strict=True)) for row in _figures(done)],
        "tables": {} if twin is None else twin.get("tables", {}),
        "nearest": done.nearest,
        "steps": done.steps.taken,
        "unused": [found._asdict() for found in done.steps.unused() if "auc" in found.result],
        "latencies_ms": [] if done.served is None else done.served["latencies_ms"],
    }
    return report if failed is None else {**report, "failed": failed}


def _figures(done: Done) -> list[tuple[str, float, str, str]]:
    rows: list[tuple[str, float, str, str]] = []
    for metric in ("gauc", "auc"):
        for key in ("twin", "din"):
            if key in done.systems and done.systems[key][metric] is not None:
                targets = f"{done.systems[key]['targets']:,} targets of the test split"
                rows.append((f"{metric}_{key}", done.systems[key][metric], "", targets))
    if done.served is not None:
        served = done.served
        calls = (
            f"{served['requests']:,} Predict calls one after the other over loopback; median "
            f"{served['median_history']:.0f} behaviours, {served['median_candidates']:.0f} candidates"
        )
        found = "of the trainer's retrieved behaviours, found by the server's retrieve"
        rows += [
            ("overlap_at_100", served["overlap_at_100"], "%", found),
            ("served_minus_trained_max", served["served_minus_trained_max"], "", f"{served['requests']:,} requests"),
            ("p50_ms", served["p50_ms"], "ms", calls),
            ("p99_ms", served["p99_ms"], "ms", calls),
        ]
    steps = done.steps.taken
    if steps:
        reused = sum(1 for step in steps if step.get("reused"))
        how = "all steps, installation apart" + (f"; {reused} of them kept from earlier calls" if reused else "")
        rows.append(("seconds_total", sum(step["seconds"] for step in steps), "s", how))
        peak = max(step["peak_rss_mb"] for step in steps)
        rows.append(("peak_rss_mb", peak, "MB", "largest process of all steps"))
    if "twin" in done.systems:
        speed = done.systems["twin"]["examples_per_s"]
        rows.append(("examples_per_s", speed, "1/s", "targets a second while TWIN trained"))
    if done.exported is not None:
        rows.append(("export_mb", done.exported["bytes"] / 1e6, "MB", "the whole model directory"))
    return rows


def _leads(systems: Mapping[str, JsonDict]) -> JsonDict:
    """GAUC of TWIN less that of each other system, with 95 % over users; of those that have a GAUC."""
    known = {key: system for key, system in systems.items() if system["gauc"] is not None}
    twin = known.pop("twin", None)
    return {} if twin is None else {key: paired_gauc([twin], [other]) for key, other in known.items()}


def _findings(done: Done) -> list[str]:
    known = {key: system for key, system in done.systems.items() if None not in (system["auc"], system["gauc"])}
    twin, din, paper = (known.get(key) for key in ("twin", "din", "twin_plain"))
    served = done.served
    lines = []
    if twin is not None and din is not None:
        lines.append(
            f"TWIN reaches AUC {twin['auc']:.4f} and GAUC {twin['gauc']:.4f} on the test split, "
            f"{twin['auc'] - din['auc']:+.4f} and {twin['gauc'] - din['gauc']:+.4f} against DIN, which sees the latest "
            f"100 behaviours{noise_text(_leads(known)['din'], ' (GAUC: {})')}."
        )
    best = best_yardstick(done.yardsticks, "gauc")
    if best is not None:
        other = done.yardsticks[best]
        lines.append(
            f"The best of what needs no network, {other['label']}, reaches AUC {other['auc']:.4f} and GAUC "
            f"{other['gauc']:.4f}."
        )
        lost = None if twin is None else not_beaten(twin, done.yardsticks, "TWIN")
        lines += [] if lost is None else [f"{lost}."]
    if twin is not None and paper is not None:
        lines.append(
            f"Without `relevance_statistics`, as in the paper, TWIN reaches AUC {paper['auc']:.4f} and GAUC "
            f"{paper['gauc']:.4f}. The statistics (logsumexp and maximum of the retrieved scores, minus the target's "
            f"self-score) add {twin['auc'] - paper['auc']:+.4f} AUC here."
        )
    if served is not None:
        lines.append(
            f"The served probabilities of {served['requests']:,} requests differ from the trainer's by at most "
            f"{served['served_minus_trained_max']:.1g}."
        )
    return [f"* {line}" for line in lines]


def write_report(workdir: Path, report: Mapping[str, Any]) -> None:
    """Writes `report.json`, `report.md`, and figures as PNG with what they show as CSV: `FIGURES`.

    A figure of something that is missing is not there either.

    Args:
        workdir: where to.
        report: of `build_report`.
    """
    write_json(workdir / "report.json", {key: value for key, value in report.items() if key != "latencies_ms"})
    systems, latencies, steps = report["systems"], report["latencies_ms"], report["steps"]
    found = {
        "quality": _quality(report) if systems else None,
        "history_length": _history_length(report),
        "latency": _latency(latencies) if latencies else None,
        "seconds": _seconds(steps) if steps else None,
    }
    drawn = {name: figure for name, figure in found.items() if figure is not None}
    for name in FIGURES:
        if name in drawn:
            (workdir / f"{name}.png").write_bytes(png(drawn[name]))
            write_whole(workdir / f"{name}.csv", as_csv(*_data(name, report)))
        else:
            for suffix in ("png", "csv"):
                (workdir / f"{name}.{suffix}").unlink(missing_ok=True)
    write_whole(workdir / "report.md", _markdown(report, {f"{name}.png" for name in drawn}))


FIGURES = ("quality", "history_length", "latency", "seconds")
"""Names of the PNG and CSV files."""


def _data(name: str, report: Mapping[str, Any]) -> tuple[Sequence[str], list[Sequence[Any]]]:
    """What a figure shows: the names of the columns, and rows."""
    if name == "latency":
        return ("ms",), [(taken,) for taken in report["latencies_ms"]]
    if name == "seconds":
        names = ("name", "seconds", "peak_rss_mb")
        return names, [tuple(step[column] for column in names) for step in report["steps"]]
    if name == "quality":
        metrics = ("auc", "gauc", "logloss")
        ends = [f"{metric}_{end}" for metric in metrics for end in ("low", "high")]
        known = [*report["systems"].items(), *((found["label"], found) for found in report["yardsticks"].values())]
        rows: list[Sequence[Any]] = []
        for label, found in known:
            intervals = found.get("intervals") or {}
            bounds = [end for metric in metrics for end in intervals.get(metric) or (None, None)]
            rows.append((label, *(found[metric] for metric in metrics), *bounds))
        return ("system", *metrics, *ends), rows
    columns = ("from", "to", "targets", "users", "auc", "gauc", "gauc_error")
    classes = ((label, row) for label, found in report["systems"].items() for row in found.get("by_history_length", ()))
    return ("system", *columns), [(label, *(row.get(column) for column in columns)) for label, row in classes]


def quality_table(
    systems: Mapping[str, Mapping[str, Any]], yardsticks: Mapping[str, Mapping[str, Any]]
) -> list[tuple[str, ...]]:
    """Rows of (system, AUC, GAUC, log loss, training seconds), yardsticks last; `-` where a figure means nothing."""
    named = [*systems.items(), *((found["label"], found) for found in yardsticks.values())]
    columns = (("auc", ".4f"), ("gauc", ".4f"), ("logloss", ".4f"), ("train_seconds", ".0f"))
    return [
        (name, *("-" if found.get(key) is None else format(found[key], form) for key, form in columns))
        for name, found in named
    ]


def _markdown(report: Mapping[str, Any], drawn: set[str]) -> str:
    lines = [f"# {report['title']}", ""]
    if "failed" in report:
        failed = report["failed"]
        lines += [f"**Not finished: the step `{failed['step']}` failed.** {plain(failed['why'])}", ""]
        lines += [f"What is done is kept. To go on: `{failed['command']}`", ""]
    lines += [*report["findings"], ""]
    if report["systems"]:
        lines += ["## Quality on the test split", "", *_picture(drawn, "quality.png", "GAUC and AUC of each system")]
        lines += [_QUALITY, ""]
        rows = quality_table(report["systems"], report["yardsticks"])
        lines += table(("system", "AUC", "GAUC", "log loss", "training seconds"), rows)
        lines += ["", *_picture(drawn, "history_length.png", "GAUC by history length")]
        lines += [_HISTORY_LENGTH, ""] if "history_length.png" in drawn else []
    if report["tables"]:
        lines += ["## What TWIN's tables learned", "", _TABLES, ""]
        lines += [*table(HEAD, table_rows(report["tables"])), ""]
        lines += [f"* {sentence}" for sentence in worthless_tables(report["tables"])] + [""]
    if report["nearest"]:
        lines += _nearest_section(report["nearest"])
    lines += _run_pages(report["systems"])
    if report["figures"]:
        lines += ["## Figures", "", *_picture(drawn, "latency.png", "Latency of a Predict call")]
        rows = [(f["name"], f"{f['value']:.6g}", f["unit"], f["how"]) for f in report["figures"]]
        lines += [*table(("figure", "value", "unit", "how"), rows), ""]
    if report["steps"]:
        lines += ["## Where the time went", "", *_picture(drawn, "seconds.png", "Seconds of each step")]
        kept = {True: "kept from an earlier call", False: ""}
        lines += table(
            ("step", "seconds", "peak RSS MB", ""),
            [
                (s["name"], f"{s['seconds']:.1f}", f"{s['peak_rss_mb']:.0f}", kept[bool(s.get("reused"))])
                for s in report["steps"]
            ],
        )
        lines += [""]
    lines += unused_section(report["unused"])
    return "\n".join([*lines, f"Code: {report['commit']}.", ""])


_QUALITY = (
    "Shows: one training of each system, with the interval that the title names, and what needs no network from the "
    "training part and strictly earlier events. Does not show: what another seed would give, or which of two systems "
    "is better where their whiskers overlap (`twin-tf evaluate --against OTHER_RUN` does: systems share their users)."
)

_HISTORY_LENGTH = (
    "Shows: which system is ahead within a class; whiskers are two standard errors over users. Does not show: what a "
    "longer history is worth, for each class holds other targets, mostly of other users. For that the histories of the "
    "same targets are cut: `twin-tf evaluate --cut-history 10,50,200`."
)

_TABLES = (
    "Moved: distance of a trained row from its random start, as a share of the rows' mean norm at the start. Worth: by "
    "how much the log loss of validation records rises when the table is put back to its start, with its standard "
    "error. Nothing is known of rows that were never trained: they keep their small start."
)


def _run_pages(systems: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Links to the pages of each system's run, which lies in `runs` beside the report."""
    rows = []
    for name, system in systems.items():
        if "run" in system:
            run = f"runs/{Path(system['run']).name}"
            pages = ("training", "report.md"), ("test split", "evaluation-test.md"), ("retrieved", "retrieved-test.md")
            rows.append((plain(name), ", ".join(f"[{what}]({run}/{page})" for what, page in pages)))
    if not rows:
        return []
    shown = "The learning curve, slices and reliability, and what the search retrieves for three users, by system:"
    return ["## Pages of the runs", "", shown, "", *table(("system", "pages"), rows), ""]


def _nearest_section(found: Mapping[str, Any]) -> list[str]:
    rows = [
        (
            plain(one["name"]),
            f"{one['behaviours']:,}",
            ", ".join(f"{plain(other['name'])} ({other['cosine']:.2f})" for other in one["nearest"]),
        )
        for one in found["items"]
    ]
    quantile = "" if found["cosine_p99"] is None else f" 99 % of all pairs are below {found['cosine_p99']:.2f}."
    return [
        "### The nearest items of well-known ones",
        "",
        f"By cosine of TWIN's item embeddings, among {found['candidates']:,} items that were met often; items of the "
        f"same name are left out.{quantile}",
        "",
        *table(("item", "behaviours", "nearest (cosine)"), rows),
        "",
    ]


def _picture(drawn: set[str], name: str, text: str) -> list[str]:
    return [f"![{text}]({name})", ""] if name in drawn else []


def _quality(report: Mapping[str, Any]) -> Figure:
    def row(label: str, found: Mapping[str, Any]) -> Quality:
        ends = [tuple(end) if (end := (found.get("intervals") or {}).get(name)) else None for name in ("gauc", "auc")]
        return Quality(label, [found["gauc"]], [found["auc"]], *ends)

    known = [row(found["label"], found) for found in report["yardsticks"].values()]
    systems = [row(label, found) for label, found in report["systems"].items()]
    return quality_dots(systems, "GAUC and AUC on the test split", known)


def _history_length(report: Mapping[str, Any]) -> Figure | None:
    shown = {name: s["by_history_length"] for name, s in report["systems"].items() if s.get("by_history_length")}
    lines = [
        Line(name, [rows], COLOURS[place % len(COLOURS)], f"{MARKERS[place % len(MARKERS)]}-")
        for place, (name, rows) in enumerate(shown.items())
    ]
    return length_lines(lines, "GAUC by history length; each class holds other targets, mostly of other users")


def _latency(latencies: Sequence[float]) -> Figure:
    figure, axes = new_figure(height=3.2)
    ordered = sorted(latencies)
    middle, late = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
    end = late * 1.2
    axes.hist(ordered, bins=60, range=(0, end), color=COLOURS[0])
    top = axes.get_ylim()[1] * 1.25  # room for the labels above the bars
    axes.set_ylim(0, top)
    for value, label, down in ((middle, f"p50 {middle:.1f} ms", -12), (late, f"p99 {late:.1f} ms", -24)):
        axes.axvline(value, color=COLOURS[1], linewidth=1.5)
        axes.annotate(label, (value, top), xytext=(4, down), textcoords="offset points", fontsize=9)
    beyond = sum(1 for taken in ordered if taken > end)
    more = f" ({beyond:,} beyond {end:.0f} ms are not drawn)" if beyond else ""
    axes.set_xlabel(f"milliseconds, client to server and back{more}")
    axes.set_ylabel("requests")
    axes.set_title(f"Latency of {len(ordered):,} Predict calls, one after the other", loc="left")
    return figure


def _seconds(steps: Sequence[Mapping[str, Any]]) -> Figure:
    figure, axes = new_figure(height=0.8 + 0.33 * len(steps))
    names = [step["name"] for step in steps][::-1]
    bars = axes.barh(names, [step["seconds"] for step in steps][::-1], color=COLOURS[0])
    axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=9)
    axes.margins(x=0.1)
    axes.set_xlabel("seconds")
    axes.set_title(f"Where the time went: {sum(s['seconds'] for s in steps):.0f} s in all", loc="left")
    return figure
