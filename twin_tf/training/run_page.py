"""What people read of a training: `report.md` in the run, with its learning curve, from `report.json`."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from twin_tf.core.buckets import BucketPath
from twin_tf.core.files import read_json
from twin_tf.core.markdown import plain, table
from twin_tf.core.mirrors import original, working_copy
from twin_tf.core.pages import NO_FIGURES, can_draw, figure_lines, write_page
from twin_tf.evaluation.evaluation_page import RUN_PAGE, at_the_top, evaluations_section
from twin_tf.evaluation.evaluation_text import printed
from twin_tf.evaluation.verdicts import best_yardstick
from twin_tf.training.learning_curve import CURVE
from twin_tf.training.table_report import HEAD, table_rows, worthless_tables

REPORT = "report.json"  # as in `runs.run`, which needs TensorFlow
CURVE_FIGURE = "learning_curve.png"


def write_run_page(run: str | Path) -> Path | BucketPath:
    """Writes `report.md` and its figure into a finished run; of one that earlier code trained, what it holds.

    Returns:
        The page.

    Raises:
        OSError: the run has no `report.json`.
    """
    with working_copy(run, at_the_top) as directory:
        report = read_json(directory / REPORT)
        figures = {CURVE_FIGURE: _curve(report)} if can_draw() else None
        drawn = None if figures is None else {name for name, content in figures.items() if content is not None}
        text = "\n".join([run_page(report, drawn), *evaluations_section(directory)])
        write_page(directory, RUN_PAGE, text, figures or {})
        return original(directory / RUN_PAGE)


def _curve(report: Mapping[str, Any]) -> bytes | None:
    from twin_tf.training.figures import learning_curve

    yardsticks, tables = report.get("yardsticks", {}), report.get("tables", {})
    best = best_yardstick(yardsticks, "gauc")
    line = None if best is None else (yardsticks[best]["label"], yardsticks[best]["gauc"])
    largest = sorted(tables, key=lambda name: -tables[name]["updated_rows"])
    return learning_curve(report.get("curve", ()), report["valid"], report["kept"]["steps"], line, largest)


def run_page(report: Mapping[str, Any], drawn: Collection[str] | None) -> str:
    """The text of `report.md` up to the links to evaluations.

    Args:
        report: of `train_model`.
        drawn: the figures that lie beside it; None where nothing could draw any.
    """
    lines = [f"# A training of {plain(report['search'])} on {plain(report['schema'])}", ""]
    lines += [f"* {plain(sentence[0].upper() + sentence[1:])}." for sentence in report.get("findings", ())]
    lines += [""] if lines[-1] else []
    lines += [NO_FIGURES, ""] if drawn is None else []
    kept = report["kept"]
    lines += [
        f"{report['steps']:,} steps, {report['targets']:,} targets learned from in {report['epochs']:,} epoch(s), "
        f"{report['train_seconds']:,.0f} s, {report['examples_per_s']:,.0f} targets a second"
        f"{', stopped early' if report['stopped_early'] else ''}. The run hands on the {kept['which']} weights, after "
        f"{kept['steps']:,} steps.",
        "",
        "## Learning curve",
        "",
    ]
    lines += figure_lines(
        drawn or (),
        CURVE_FIGURE,
        "Loss, validation GAUC and movement of tables over the steps",
        "whether loss and GAUC were still getting better when training ended, and whether the tables with most trained "
        f"rows left their start (the median of a sample of rows; [{CURVE}]({CURVE}) has every table).",
        "how good the model is on later data; nor, after the first epoch, whether the loss falls because targets were "
        "seen before.",
    )
    lines += _epochs(report)
    lines += _validation(report)
    if report.get("tables"):
        lines += ["## What the tables learned", "", _TABLES, "", *table(HEAD, table_rows(report["tables"])), ""]
        lines += [f"* {plain(sentence[0].upper() + sentence[1:])}." for sentence in worthless_tables(report["tables"])]
        lines += [""] if lines[-1] else []
    return "\n".join([*lines, f"All of it: [{REPORT}]({REPORT}).", ""])


def _epochs(report: Mapping[str, Any]) -> list[str]:
    """Loss and attention of each epoch."""
    overlap = next((name for name in report if name.startswith("gsu_overlap@")), None)
    columns = [
        report["loss"],
        *(
            report.get(name) or [None] * len(report["loss"])
            for name in (overlap or "", "attention_entropy", "attention_entropy_normalised")
        ),
    ]
    rows = [
        (str(number), *("-" if figure is None else f"{figure:.4f}" for figure in figures))
        for number, figures in enumerate(zip(*columns, strict=True), 1)
    ]
    head = ("epoch", "training loss", overlap or "gsu_overlap", "attention entropy, nats", "normalised")
    return [*table(head, rows), "", _ATTENTION, ""]


def _validation(report: Mapping[str, Any]) -> list[str]:
    valid = report["kept"]["valid"]
    if not valid:
        return ["## Validation", "", "The run's weights were not evaluated: there are no validation records.", ""]
    others = sorted(report.get("yardsticks", {}).values(), key=lambda found: -(found["gauc"] or 0.0))
    metrics = ("auc", "gauc", "logloss", "calibration")
    rows = [
        (plain(str(found.get("label", "the model"))), *(printed(found[metric]) for metric in metrics))
        for found in (valid, *others)
    ]
    error = "" if valid.get("gauc_error") is None else f" The standard error of its GAUC is {valid['gauc_error']:.4f}."
    return [
        "## Validation, beside what needs no network",
        "",
        *table(("on the same records", "AUC", "GAUC", "log loss", "calibration"), rows),
        "",
        f"{valid['targets']:,} targets of {valid['users']:,} users.{error} A choice by these records, of settings or "
        "of the best weights, makes the model's figures a little too good; `twin-tf evaluate` scores the test split.",
        "",
    ]


_ATTENTION = (
    "Overlap: share of the behaviours most relevant to the ESU that the GSU finds. Normalised entropy: entropy of a "
    "target's attention over ln n, n the number of behaviours retrieved for it (at least 2): 1 where all have equal "
    "weight, 0 where one has all."
)

_TABLES = (
    "Moved: distance of a trained row from its start, as a share of the rows' mean norm at the start. Worth: by how "
    "much the log loss of validation records rises when the table is put back to its start, with its standard error."
)
