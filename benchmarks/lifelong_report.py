"""The page of the study of long lives: tables, and four figures with one message each."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from twin_tf.core.markdown import table
from twin_tf.core.plots import COLOURS, Line, Quality, length_lines, new_figure, png, quality_dots

Plain = Mapping[str, Any]

CHOSEN = ("twin", "v2_gamma20", "v2_without_ln", "oracle")
"""The systems of the figure by history length."""


FEWEST = 100
"""Targets of a class of history lengths that is shown; with fewer, its GAUC is chance."""


def mean(results: Sequence[Plain], name: str) -> float:
    """Over the seeds."""
    return statistics.fmean(result[name] for result in results)


def write_lifelong_report(workdir: Path, report: Plain) -> None:
    """Writes `report.json`, `report.md` and the figures of those systems that are there."""
    (workdir / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    systems = report["systems"]
    drawn: dict[str, Figure | None] = {
        "quality.png": _quality(systems),
        "coverage.png": _coverage(systems),
        "groups.png": _groups(systems),
    }
    if any(name.startswith("v2_gamma") for name in systems):
        drawn["gamma.png"] = _gamma(systems)
    figures = {name: figure for name, figure in drawn.items() if figure is not None}
    for name, figure in figures.items():
        (workdir / name).write_bytes(png(figure))
    (workdir / "report.md").write_text(_page(report, list(figures)), encoding="utf-8")


def _page(report: Plain, figures: Sequence[str]) -> str:
    systems, load = report["systems"], report["load"]
    lines = ["# TWIN-V2 on simulated long lives", ""]
    lines += [f"* {line}" for line in _findings(systems, load)]
    lines += [
        "",
        f"{load['users']} simulated users, median {load['median_history']:,} and at most {load['max_history']:,} "
        f"behaviours in {load['days']} days; interests change every {load['phase_sessions']} sessions, so that the "
        f"latest {load['window']:,} behaviours are about few of them. Commit {report['commit']}, "
        f"{report['machine']['cpu']}, {report['machine']['cores']} cores; seeds {load['seeds']}.",
        "",
        "![AUC and GAUC of each system](quality.png)",
        "",
    ]
    head = ("system", "AUC", "GAUC", "recall", "precision", "training s", "peak GB")
    rows = []
    for results in systems.values():
        first, peaks = results[0], [r["train_peak_rss_mb"] for r in results if r["train_peak_rss_mb"]]
        rows.append(
            (
                first["label"],
                _spread(results, "auc"),
                _spread(results, "gauc"),
                f"{first['coverage']['recall']:.1%}",
                f"{first['coverage']['precision']:.1%}",
                f"{mean(results, 'train_seconds'):.0f}",
                f"{max(peaks) / 1e3:.1f}" if peaks else "-",
            )
        )
    lines += table(head, rows)
    guessed = next(iter(systems.values()))[0]["coverage"]
    lines += [
        "",
        "Covered: of the behaviours that the user met with the target's own interest, the share that is retrieved, "
        "alone or in a cluster. Precision: of the behaviours that the retrieved ones stand for, the share that is "
        f"relevant; {guessed['guessed']:.1%} of all behaviours are. {guessed['targets']:,} targets looked up, "
        f"{guessed['behaviours_mean']:,.0f} behaviours before them on average.",
        "",
        "![Recall of the relevant behaviours](coverage.png)",
        "",
        *(["![GAUC by the number of behaviours](groups.png)", ""] if "groups.png" in figures else []),
    ]
    if "gamma.png" in figures:
        lines += ["![What the size of clusters changes](gamma.png)", ""]
        sizes = [
            (gamma, f"{part['entries'] / part['behaviours']:.1%}", f"{part['entries'] / part['records']:,.0f}",
             str(part["largest"]))
            for gamma, part in report["clusters"].items()
        ]  # fmt: skip
        lines += table(("gamma", "entries by behaviours", "entries a user, mean", "largest cluster"), sizes)
    return "\n".join(lines) + "\n"


def _spread(results: Sequence[Plain], name: str) -> str:
    values = [result[name] for result in results]
    deviation = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.4f}{deviation}"


def _findings(systems: Mapping[str, Sequence[Plain]], load: Plain) -> list[str]:
    if not {"twin", "v2_gamma20", "oracle"} <= set(systems):
        return ["Not finished: run the same command again."]
    twin, clusters, oracle = (systems[name] for name in ("twin", "v2_gamma20", "oracle"))
    gain, gauc_gain = (mean(clusters, metric) - mean(twin, metric) for metric in ("auc", "gauc"))
    left = mean(oracle, "auc") - mean(clusters, "auc")
    lines = [
        f"Clusters of at most 20 reach AUC {mean(clusters, 'auc'):.4f} and GAUC {mean(clusters, 'gauc'):.4f}: "
        f"{gain:+.4f} and {gauc_gain:+.4f} against TWIN on the latest {load['window']:,}.",
        f"The oracle, which looks at every single behaviour, differs from them by {left:+.4f} AUC.",
    ]
    if "v2_without_ln" in systems:
        without = mean(clusters, "auc") - mean(systems["v2_without_ln"], "auc")
        lines.append(f"ln n is worth {without:+.4f} AUC.")
    return lines


def _quality(systems: Mapping[str, Sequence[Plain]]) -> Figure:
    shown = [Quality(r[0]["label"], [one["gauc"] for one in r], [one["auc"] for one in r]) for r in systems.values()]
    return quality_dots(shown, "Simulated long lives: GAUC and AUC on the test split")


def _coverage(systems: Mapping[str, Sequence[Plain]]) -> Figure:
    figure, axes = new_figure(height=0.9 + 0.5 * len(systems))
    names = list(systems)[::-1]
    values = [systems[name][0]["coverage"]["recall"] for name in names]
    bars = axes.barh([systems[name][0]["label"] for name in names], values, color=COLOURS[0])
    axes.bar_label(bars, [f"{value:.1%}" for value in values], padding=3, fontsize=9)
    axes.set_xlim(0, max(values) * 1.15 + 1e-9)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xlabel("share of the target's relevant behaviours that are retrieved, alone or in a cluster")
    axes.set_title("Recall of the relevant behaviours by the 100 retrieved", loc="left")
    return figure


def _groups(systems: Mapping[str, Sequence[Plain]]) -> Figure | None:
    looks = zip((COLOURS[1], COLOURS[0], COLOURS[2], COLOURS[3]), ("o-", "s-", "s--", "^:"), strict=True)
    lines = [
        Line(systems[name][0]["label"], [one["by_history_length"] for one in systems[name]], colour, style)
        for name, (colour, style) in zip(CHOSEN, looks, strict=True)
        if name in systems
    ]
    return length_lines(lines, "GAUC by history length; each class holds other targets, mostly of other users", FEWEST)


def _gamma(systems: Mapping[str, Sequence[Plain]]) -> Figure:
    figure, axes = new_figure()
    swept = {results[0]["gamma"]: results for name, results in systems.items() if name.startswith("v2_gamma")}
    gammas = sorted(swept)
    for metric, colour in (("auc", COLOURS[0]), ("gauc", COLOURS[1])):
        values = [mean(swept[gamma], metric) for gamma in gammas]
        axes.plot(range(len(gammas)), values, "o-", color=colour, label=f"TWIN-V2, {metric.upper()}")
        for name, style in (("twin", ":"), ("oracle", "--")):
            if name in systems:
                axes.axhline(mean(systems[name], metric), color=colour, linestyle=style, linewidth=1)
    axes.plot([], [], ":", color="black", label="TWIN, latest behaviours")
    axes.plot([], [], "--", color="black", label="oracle, all behaviours")
    axes.set_xticks(range(len(gammas)), [str(gamma) for gamma in gammas])
    axes.set_xlabel("gamma, the largest size of a cluster")
    axes.set_title("What the size of clusters changes", loc="left")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False, fontsize=9)
    return figure
