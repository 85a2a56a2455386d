"""What people read after a demo: `report.md` and its PNG plots; programs read `report.json`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twin_tf.figures import COLOURS, Line, Quality, length_lines, new_figure, png, quality_bars
from twin_tf.markdown import table


def write_report(workdir: Path, report: Mapping[str, Any]) -> None:
    """Writes `report.json`, `report.md`, `quality.png`, `history_length.png`, `latency.png` and `seconds.png`.

    Args:
        workdir: where to.
        report: `title`, `systems` (label -> metrics and `by_history_length`), `figures` (list of name, value, unit,
            how), `steps` (list of name, seconds, peak_rss_mb), `latencies_ms`.
    """
    plain = {key: value for key, value in report.items() if key != "latencies_ms"}
    (workdir / "report.json").write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    _quality(workdir / "quality.png", report)
    _history_length(workdir / "history_length.png", report)
    _latency(workdir / "latency.png", report["latencies_ms"])
    _seconds(workdir / "seconds.png", report["steps"])
    (workdir / "report.md").write_text(_markdown(report), encoding="utf-8")


def quality_table(systems: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, str, str, str]]:
    """Rows of (system, AUC, GAUC, log loss, training seconds); `-` where a figure means nothing."""
    rows = []
    for name, system in systems.items():
        learned = "train_seconds" in system
        rows.append(
            (
                name,
                f"{system['auc']:.4f}",
                f"{system['gauc']:.4f}",
                f"{system['logloss']:.4f}" if learned else "-",
                f"{system['train_seconds']:.0f}" if learned else "-",
            )
        )
    return rows


def _markdown(report: Mapping[str, Any]) -> str:
    lines = [f"# {report['title']}", "", *report["findings"], ""]
    lines += ["## Quality on the test split", "", "![AUC and GAUC of each system](quality.png)", ""]
    lines += table(("system", "AUC", "GAUC", "log loss", "training seconds"), quality_table(report["systems"]))
    lines += ["", "![GAUC by history length](history_length.png)", ""]
    lines += ["## Served", "", "![Latency of a Predict call](latency.png)", ""]
    lines += table(
        ("figure", "value", "unit", "how"),
        [(f["name"], f"{f['value']:.6g}", f["unit"], f["how"]) for f in report["figures"]],
    )
    lines += ["", "## Where the time went", "", "![Seconds of each step](seconds.png)", ""]
    lines += table(
        ("step", "seconds", "peak RSS MB"),
        [(s["name"], f"{s['seconds']:.1f}", f"{s['peak_rss_mb']:.0f}") for s in report["steps"]],
    )
    return "\n".join(lines) + "\n"


def _quality(path: Path, report: Mapping[str, Any]) -> None:
    systems = [Quality(name, [s["auc"]], [s["gauc"]]) for name, s in report["systems"].items()]
    path.write_bytes(quality_bars(systems, f"{report['title']}: test split"))


def _history_length(path: Path, report: Mapping[str, Any]) -> None:
    shown = {name: s["by_history_length"] for name, s in report["systems"].items() if s.get("by_history_length")}
    lines = [Line(name, [rows], colour) for (name, rows), colour in zip(shown.items(), COLOURS, strict=False)]
    path.write_bytes(length_lines(lines, "What a longer history is worth to each system"))


def _latency(path: Path, latencies: Sequence[float]) -> None:
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
    path.write_bytes(png(figure))


def _seconds(path: Path, steps: Sequence[Mapping[str, Any]]) -> None:
    figure, axes = new_figure(height=0.8 + 0.33 * len(steps))
    names = [step["name"] for step in steps][::-1]
    bars = axes.barh(names, [step["seconds"] for step in steps][::-1], color=COLOURS[0])
    axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=9)
    axes.margins(x=0.1)
    axes.set_xlabel("seconds")
    axes.set_title(f"Where the time went: {sum(s['seconds'] for s in steps):.0f} s in all", loc="left")
    path.write_bytes(png(figure))
