"""What people read after a demo: `report.md` and its PNG plots; programs read `report.json`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twin_tf.figures import COLOURS, new_figure, png
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
    systems = report["systems"]
    figure, axes = new_figure(height=0.75 + 0.75 * len(systems))
    names = list(systems)[::-1]
    for offset, metric, colour in ((0.2, "auc", COLOURS[0]), (-0.2, "gauc", COLOURS[2])):
        values = [systems[name][metric] for name in names]
        bars = axes.barh(
            [i + offset for i in range(len(names))], values, height=0.36, color=colour, label=metric.upper()
        )
        axes.bar_label(bars, fmt="%.4f", padding=3, fontsize=9)
    low = min(min(s["auc"], s["gauc"]) for s in systems.values())
    high = max(max(s["auc"], s["gauc"]) for s in systems.values())
    axes.set_xlim(max(0.0, min(0.5, low - 0.02)), high + 0.04)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("area under the curve (0.5 = guessing)")
    axes.set_title(f"{report['title']}: test split", loc="left")
    figure.legend(loc="outside lower right", ncols=2, frameon=False)
    path.write_bytes(png(figure))


def _history_length(path: Path, report: Mapping[str, Any]) -> None:
    figure, axes = new_figure()
    systems = {name: s["by_history_length"] for name, s in report["systems"].items() if s.get("by_history_length")}
    classes = max(systems.values(), key=len)
    places = {row["from"]: i for i, row in enumerate(classes)}
    for (name, rows), colour in zip(systems.items(), COLOURS, strict=False):
        shown = [(places[row["from"]], row["gauc"]) for row in rows if row["from"] in places]
        axes.plot([x for x, _ in shown], [y for _, y in shown], marker="o", color=colour, label=name)
    spans = [f"{r['from']:,}+" if r["to"] is None else f"{r['from']:,} to {r['to'] - 1:,}" for r in classes]
    labels = [f"{span}\n({r['targets']:,})" for span, r in zip(spans, classes, strict=True)]
    axes.set_xticks(range(len(classes)), labels, fontsize=8)
    axes.set_xlabel("behaviours before the target (targets in the class)")
    axes.set_ylabel("GAUC")
    axes.set_title("What a longer history is worth to each system", loc="left")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False)
    path.write_bytes(png(figure))


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
