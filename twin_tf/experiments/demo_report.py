"""What people read after a demo, finished or not: `report.md` and its PNG plots; programs read `report.json`."""

import dataclasses
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twin_tf.core.files import JsonDict, write_json, write_whole
from twin_tf.core.markdown import plain, table
from twin_tf.core.plots import COLOURS, Line, Quality, length_lines, new_figure, png, quality_bars
from twin_tf.core.result_cache import unused_section
from twin_tf.evaluation.verdicts import best_yardstick, not_beaten
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
            if key in done.systems:
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


def _findings(done: Done) -> list[str]:
    twin, din, paper = (done.systems.get(key) for key in ("twin", "din", "twin_plain"))
    served = done.served
    lines = []
    if twin is not None and din is not None:
        lines.append(
            f"TWIN reaches AUC {twin['auc']:.4f} and GAUC {twin['gauc']:.4f} on the test split, "
            f"{twin['auc'] - din['auc']:+.4f} and {twin['gauc'] - din['gauc']:+.4f} against DIN, which sees the latest "
            "100 behaviours."
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
    """Writes `report.json`, `report.md`, `quality.png`, `history_length.png`, `latency.png` and `seconds.png`.

    A plot of something that is missing is not there either.

    Args:
        workdir: where to.
        report: of `build_report`.
    """
    write_json(workdir / "report.json", {key: value for key, value in report.items() if key != "latencies_ms"})
    systems, latencies, steps = report["systems"], report["latencies_ms"], report["steps"]
    drawn = {
        "quality.png": _quality(report) if systems else None,
        "history_length.png": _history_length(report)
        if any(s.get("by_history_length") for s in systems.values())
        else None,
        "latency.png": _latency(latencies) if latencies else None,
        "seconds.png": _seconds(steps) if steps else None,
    }
    for name, content in drawn.items():
        if content is None:
            (workdir / name).unlink(missing_ok=True)
        else:
            (workdir / name).write_bytes(content)
    write_whole(workdir / "report.md", _markdown(report, {name for name, content in drawn.items() if content}))


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
        lines += ["## Quality on the test split", "", *_picture(drawn, "quality.png", "AUC and GAUC of each system")]
        rows = quality_table(report["systems"], report["yardsticks"])
        lines += table(("system", "AUC", "GAUC", "log loss", "training seconds"), rows)
        lines += ["", *_picture(drawn, "history_length.png", "GAUC by history length")]
    if report["tables"]:
        lines += ["## What TWIN's tables learned", "", _TABLES, ""]
        lines += [*table(HEAD, table_rows(report["tables"])), ""]
        lines += [f"* {sentence}" for sentence in worthless_tables(report["tables"])] + [""]
    if report["nearest"]:
        lines += _nearest_section(report["nearest"])
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


_TABLES = (
    "Moved: distance of a trained row from its random start, as a share of the rows' mean norm at the start. Worth: by "
    "how much the log loss of validation records rises when the table is put back to its start, with its standard "
    "error. Nothing is known of rows that were never trained: they keep their small start."
)


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


def _quality(report: Mapping[str, Any]) -> bytes:
    known = [(s["label"], s) for s in report["yardsticks"].values() if None not in (s["auc"], s["gauc"])]
    named = [*report["systems"].items(), *known]
    systems = [Quality(name, [s["auc"]], [s["gauc"]]) for name, s in named]
    return quality_bars(systems, f"{report['title']}: test split")


def _history_length(report: Mapping[str, Any]) -> bytes:
    shown = {name: s["by_history_length"] for name, s in report["systems"].items() if s.get("by_history_length")}
    lines = [Line(name, [rows], colour) for (name, rows), colour in zip(shown.items(), COLOURS, strict=False)]
    return length_lines(lines, "GAUC of users with short and with long histories")


def _latency(latencies: Sequence[float]) -> bytes:
    figure, axes = new_figure(height=3.2)
    ordered = sorted(latencies)
    middle, late = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
    axes.hist(ordered, bins=60, range=(0, late * 1.2), color=COLOURS[0])
    for value, label in ((middle, f"p50 {middle:.1f} ms"), (late, f"p99 {late:.1f} ms")):
        axes.axvline(value, color=COLOURS[1], linewidth=1.5)
        axes.annotate(label, (value, axes.get_ylim()[1]), xytext=(4, -12), textcoords="offset points", fontsize=9)
    axes.set_xlabel("milliseconds, client to server and back")
    axes.set_ylabel("requests")
    axes.set_title(f"Latency of {len(ordered):,} Predict calls, one after the other", loc="left")
    return png(figure)


def _seconds(steps: Sequence[Mapping[str, Any]]) -> bytes:
    figure, axes = new_figure(height=0.8 + 0.33 * len(steps))
    names = [step["name"] for step in steps][::-1]
    bars = axes.barh(names, [step["seconds"] for step in steps][::-1], color=COLOURS[0])
    axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=9)
    axes.margins(x=0.1)
    axes.set_xlabel("seconds")
    axes.set_title(f"Where the time went: {sum(s['seconds'] for s in steps):.0f} s in all", loc="left")
    return png(figure)
