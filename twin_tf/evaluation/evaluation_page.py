"""What people read of an evaluation: `evaluation-<split>.md` in the run, with figures, from its JSON."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from twin_tf.core.buckets import BucketPath
from twin_tf.core.files import read_json, write_whole
from twin_tf.core.markdown import code, plain, table
from twin_tf.core.mirrors import original, working_copy
from twin_tf.core.pages import NO_FIGURES, can_draw, figure_lines, write_page
from twin_tf.evaluation.evaluation_text import printed, requests_sentence, span
from twin_tf.evaluation.retrieved_page import write_retrieved

RUN_PAGE = "report.md"
EVALUATIONS = "## Evaluations"
"""The last section of a run's page, which is written anew with every evaluation."""

METRICS = {"auc": "AUC", "gauc": "GAUC", "logloss": "log loss", "calibration": "calibration"}


def write_evaluation_page(run: str | Path, split: str) -> Path | BucketPath:
    """Writes the pages of an evaluation that lies in a run, and its link on the run's page.

    Args:
        run: of `evaluate_run`, or of an earlier evaluation.
        split: whose targets were scored.

    Returns:
        The page; `retrieved-<split>.md` lies beside it.

    Raises:
        OSError: there is no such evaluation.
    """
    stem = f"evaluation-{split}"
    with working_copy(run, at_the_top) as directory:
        result = read_json(directory / f"{stem}.json")
        figures = _drawn(result, stem) if can_draw() else None
        drawn = None if figures is None else {name for name, content in figures.items() if content is not None}
        write_page(directory, f"{stem}.md", evaluation_page(result, drawn), figures or {})
        write_retrieved(directory, split, result.get("retrieved"))
        page = directory / RUN_PAGE
        if page.is_file():
            text = page.read_text(encoding="utf-8").split(f"\n{EVALUATIONS}\n")[0]
            write_whole(page, "\n".join([text, *evaluations_section(directory)]))
        return original(directory / f"{stem}.md")


def at_the_top(name: str) -> bool:
    """Whether a file of a run lies in no folder of it, as pages and what they are made of do."""
    return "/" not in name


def _drawn(result: Mapping[str, Any], stem: str) -> dict[str, bytes | None]:
    from twin_tf.evaluation import figures

    split = result["split"]
    return {
        f"{stem}-yardsticks.png": figures.beside_yardsticks(_systems(result), split),
        f"{stem}-reliability.png": figures.reliability_diagram(result["reliability"], split),
        f"{stem}-slices.png": figures.slice_dots(result["slices"], result["metrics"], split),
        f"{stem}-history.png": figures.history_worth(result.get("history_worth", ()), split),
    }


def _systems(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The model and its yardsticks, the best GAUC of these first."""
    others = sorted(result.get("yardsticks", {}).values(), key=lambda found: -(found["gauc"] or 0.0))
    return [{"label": "the model", **result["metrics"], "intervals": result["intervals"]}, *others]


def evaluation_page(result: Mapping[str, Any], drawn: Collection[str] | None) -> str:
    """The text of `evaluation-<split>.md`.

    Args:
        result: of `evaluate_run`.
        drawn: the figures that lie beside it; None where nothing could draw any.
    """
    split = result["split"]
    stem, whole, there = f"evaluation-{split}", result["metrics"], drawn or ()
    lines = [f"# Evaluation on the {split} split", ""]
    lines += [f"* {sentence[0].upper()}{sentence[1:]}." for sentence in _verdicts(result)]
    lines += [""] if lines[-1] else []
    lines += [NO_FIGURES, ""] if drawn is None else []
    rows = [(name, printed(whole[metric]), span(result["intervals"][metric])) for metric, name in METRICS.items()]
    lines += [*table(("metric", "value", "95 % over users"), rows), ""]
    lines += [
        f"{whole['targets']:,} targets of {whole['users']:,} users, {whole['clicks']:,} of them clicked. GAUC weighs a "
        f"user by targets; {whole['users_of_one_class']:,} users without both labels are left out of it. Calibration "
        "is predicted clicks over clicks.",
        "",
    ]
    lines += _yardstick_section(result, stem, there)
    lines += ["## Reliability", ""]
    lines += figure_lines(
        there,
        f"{stem}-reliability.png",
        "Predicted and observed click rates by tenth of the score",
        "whether a predicted probability is the share of clicks among targets that are given it.",
        "how well targets are ordered, and whether it holds within a slice; the next figure has that.",
    )
    lines += [*table(("score", "targets", "predicted", "observed", "standard error"), _deciles(result)), ""]
    lines += _slice_section(result, stem, there)
    lines += _history_section(result, stem, there)
    if result.get("retrieved"):
        page = f"retrieved-{split}.md"
        lines += [f"What the search retrieves for {len(result['retrieved'])} users: [{page}]({page}).", ""]
    csvs = [f"{stem}-slices.csv", f"{stem}-reliability.csv"]
    named = ", ".join(f"[{name}]({name})" for name in csvs)
    return "\n".join([*lines, f"The same as tables: {named}; all of it: [{stem}.json]({stem}.json).", ""])


def _verdicts(result: Mapping[str, Any]) -> list[str]:
    found = [result.get("not_beaten"), result["against"]["sentence"] if "against" in result else None]
    if result.get("requests", {}).get("requests"):
        found.append(requests_sentence(result["requests"], result["intervals"]))
    return [plain(sentence) for sentence in found if sentence]


def _yardstick_section(result: Mapping[str, Any], stem: str, drawn: Collection[str]) -> list[str]:
    if not result.get("yardsticks"):
        return []
    lines = ["## Beside what needs no network", ""]
    lines += figure_lines(
        drawn,
        f"{stem}-yardsticks.png",
        "AUC and GAUC of the model and of what needs no network",
        "the model and what needs no network on the same targets, each with 95 % over users.",
        "whether a difference is more than noise: users that are hard for one are hard for the other, so intervals may "
        "overlap and the difference be sure all the same; the table has the paired difference.",
    )
    rows = []
    for row in _systems(result):
        gap = (row.get("behind") or {}).get("gauc")
        rows.append((plain(row["label"]), *(printed(row[m]) for m in ("auc", "gauc", "logloss")), _gap(gap)))
    head = ("on the same targets", "AUC", "GAUC", "log loss", "GAUC of the model less this (95 %)")
    return [*lines, *table(head, rows), ""]


def _gap(gap: Mapping[str, Any] | None) -> str:
    if gap is None:
        return "-"
    ends = "no interval" if gap["low"] is None else f"{gap['low']:+.4f} to {gap['high']:+.4f}"
    return f"{gap['difference']:+.4f} ({ends}{'' if gap['beyond_noise'] else ', no more than noise'})"


def _deciles(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            f"{row['from']:.4f} to {row['to']:.4f}",
            f"{row['targets']:,}",
            f"{row['predicted']:.4f}",
            f"{row['observed']:.4f}",
            "-" if row["error"] is None else f"{row['error']:.4f}",
        )
        for row in result["reliability"]
    ]


def _slice_section(result: Mapping[str, Any], stem: str, drawn: Collection[str]) -> list[str]:
    lines = ["## Slices", ""]
    lines += figure_lines(
        drawn,
        f"{stem}-slices.png",
        "AUC and calibration by slice",
        "AUC and calibration within each slice (number of targets), with 95 % over users; hollow: too few "
        "for that. Of a slicing with more than ten values the ten with most targets.",
        "why a slice is low: each holds other users and items, and some are harder for any model. Slices of a single "
        "label have no AUC and are left out.",
    )
    worst: Sequence[Mapping[str, Any]] = result["worst_slices"]
    if not worst:
        return [*lines, "No slice has an interval of its AUC: there are too few users or clicks in each.", ""]
    rows = [
        (
            plain(row["slice"]),
            plain(str(row["value"])),
            f"{row['targets']:,}",
            f"{row['users']:,}",
            f"{printed(row['auc'])} ({span(row['intervals']['auc'])})",
            printed(row["gauc"]),
            printed(row["calibration"]),
        )
        for row in worst
    ]
    head = ("slice", "value", "targets", "users", "AUC (95 % over users)", "GAUC", "calibration")
    return [
        *lines,
        f"### The {len(worst)} slices of lowest AUC",
        "",
        "By the upper end of the interval, so that no small slice is here by chance.",
        "",
        *table(head, rows),
        "",
    ]


def _history_section(result: Mapping[str, Any], stem: str, drawn: Collection[str]) -> list[str]:
    if not result.get("history_worth"):
        return []
    lines = ["## What history is worth", ""]
    lines += figure_lines(
        drawn,
        f"{stem}-history.png",
        "GAUC of the same targets by what is left of their histories",
        "what this model makes of the same targets when it sees the latest behaviours alone.",
        "what a model would reach that was trained on short histories; nor is a target whose history is shorter than "
        "the cut changed by it.",
    )
    rows = [
        (
            "all" if row["history"] is None else f"{row['history']:,}",
            *(printed(row[metric]) for metric in ("auc", "gauc", "logloss")),
            "-" if row["history"] is None else _gap(row["less"]["gauc"]),
        )
        for row in result["history_worth"]
    ]
    head = ("behaviours left", "AUC", "GAUC", "log loss", "GAUC less that of whole histories (95 %)")
    return [*lines, *table(head, rows), ""]


def evaluations_section(run: Path) -> list[str]:
    """The last section of a run's page: its evaluations, or how to make one."""
    rows = []
    for path in sorted(run.glob("evaluation-*.md")):
        found = read_json(path.with_suffix(".json"))
        figures = [f"{METRICS[metric]} {printed(found['metrics'][metric])}" for metric in ("auc", "gauc", "logloss")]
        rows.append(f"* [{path.name}]({path.name}): {found['metrics']['targets']:,} targets, {', '.join(figures)}")
    none = f"None yet: {code('twin-tf evaluate --run RUN --prepared PREPARED')} adds one."
    return [EVALUATIONS, "", *(rows or [none]), ""]
