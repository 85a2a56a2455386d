"""What a comparison leaves: `report.json` for programs, `report.md` and its figures for people, its tables as CSV.

`report.json` holds `systems.<key>.{auc,gauc,logloss}_{mean,std,low,high}`, `paired.<key>`, `yardsticks.<key>`,
`consistency.<key>`, `length.<key>`, `ablation.<key>` and everything they were computed from.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from twin_tf.core.plots import png
from twin_tf.experiments.comparison import figures
from twin_tf.experiments.comparison.page import page
from twin_tf.experiments.comparison.summaries import ablated, by_length, paired_gauc, summary
from twin_tf.experiments.comparison.tables import csv_tables

Plain = Mapping[str, Any]

FIGURES = (
    "quality",
    "paired",
    "consistency",
    "table_age",
    "history_length",
    "ablations",
    "ground_truth",
)
"""Names of the PNG files."""

TABLES = (*FIGURES, "seeds", "cost", "tuning")
"""Names of the CSV files."""


def write_comparison(workdir: Path, report: Plain) -> None:
    """Writes `report.json`, `report.md`, the figures and the tables, of what there is so far."""
    content = summarised(report)
    drawn = {name: figure for name, figure in draw(content).items() if figure is not None}
    written = {f"{name}.png": png(figure) for name, figure in drawn.items()}
    written |= {f"{name}.csv": text.encode() for name, text in csv_tables(content).items()}
    for name in (*(f"{name}.png" for name in FIGURES), *(f"{name}.csv" for name in TABLES)):
        if name in written:
            (workdir / name).write_bytes(written[name])
        else:
            (workdir / name).unlink(missing_ok=True)  # of an earlier comparison here, of other systems
    (workdir / "report.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (workdir / "report.md").write_text(page(content, set(drawn)), encoding="utf-8")


def summarised(report: Plain) -> dict[str, Any]:
    """A report with what is computed from its `results` and `extras`."""
    results, extras = report["results"], report["extras"]
    others = {key: found for key, found in results.items() if key != "twin"}
    leads = {key: paired_gauc(results.get("twin", ()), found) for key, found in others.items()}
    return {
        **report,
        "systems": {key: summary(found) for key, found in results.items()},
        "paired": {key: lead for key, lead in leads.items() if lead is not None},
        "consistency": {key: extra["by_size"] for key, extra in extras.items() if extra.get("by_size")},
        "length": {key: by_length(found) for key, found in results.items()},
        "ablation": {key: ablated(results, key) for key in report["ablations"] if key in results},
        "ground_truth": {key: extra["ground_truth"] for key, extra in extras.items() if extra.get("ground_truth")},
    }


def draw(content: Plain) -> dict[str, Figure | None]:
    """The figures of what there is; None where there is nothing to draw."""
    results, extras, labels = content["results"], content["extras"], content["labels"]
    main = {key: found for key, found in results.items() if key not in content["ablations"]}
    summaries = {key: content["systems"][key] for key in main}
    planted = {key: shares for key, shares in content["ground_truth"].items() if key in main and shares["targets"]}
    ablations = [key for key in ("twin", *content["ablations"]) if key in extras and key in results]
    return {
        "quality": figures.quality(summaries, main, labels, content["yardsticks"]) if main else None,
        "paired": figures.paired(content["paired"], labels),
        "consistency": figures.consistency(content["consistency"], labels),
        "table_age": figures.table_age(extras.get("twin", {}).get("by_age") or ()),
        "history_length": figures.by_length(main, labels),
        "ablations": figures.ablations(ablations, results, extras, labels) if len(ablations) > 1 else None,
        "ground_truth": figures.ground_truth(planted, main, labels) if len(planted) > 1 else None,
    }
