"""The tables of a comparison: rows for `report.md`, and everything that its figures show as CSV."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from twin_tf.core.files import JsonDict
from twin_tf.evaluation.slices import as_csv
from twin_tf.experiments.comparison.summaries import METRICS
from twin_tf.experiments.comparison.systems import Factors

Plain = Mapping[str, Any]


def quality_rows(report: Plain) -> list[tuple[str, ...]]:
    """Rows of (system, AUC, GAUC, log loss, TWIN's lead in GAUC, its 95 %, seeds), the yardsticks at the end."""
    rows = []
    for key, found in report["results"].items():
        if key not in report["ablations"]:
            means = report["systems"][key]
            cells = [_spread(means[f"{metric}_mean"], means[f"{metric}_std"]) for metric in METRICS]
            lead = report["paired"].get(key)
            shown = ("-", "-") if lead is None else (_spread(lead["mean"], lead["std"], sign="+"), interval_text(lead))
            rows.append((report["labels"][key], *cells, *shown, str(len(found))))
    for found in report["yardsticks"].values():
        cells = ["-" if found[metric] is None else f"{found[metric]:.4f}" for metric in METRICS]
        rows.append((f"{found['label']} (no network)", *cells, "-", "-", "-"))
    return rows


def interval_text(lead: Plain) -> str:
    """The interval of a lead, marked if it is no more than noise."""
    text = "-" if lead["low"] is None else f"{lead['low']:+.4f} to {lead['high']:+.4f}"
    return f"{text} (noise)" if lead["beyond_noise"] is False else text


def ablation_rows(report: Plain) -> list[tuple[str, ...]]:
    """Rows of (system, AUC, GAUC, TWIN's lead in both, 95 % of the latter, request ms), of the first seed, TWIN first.

    Differences are of the same seed.
    """
    results, seed = report["results"], report["seeds"][0]
    rows = []
    for key in ("twin", *report["ablation"]):
        found = next(result for result in results[key] if result["seed"] == seed)
        leads = [report["ablation"][key][f"{metric}_lead"] for metric in ("auc", "gauc")] if key != "twin" else []
        shown = [f"{lead:+.4f}" for lead in leads] or ["-", "-"]
        between = interval_text(report["paired"][key]) if key != "twin" else "-"
        extra = report["extras"].get(key)
        cost = f"{extra['latency']['p50_ms']:.1f}" if extra else "-"
        rows.append((report["labels"][key], f"{found['auc']:.4f}", f"{found['gauc']:.4f}", *shown, between, cost))
    return rows


def ground_truth_rows(report: Plain) -> list[tuple[str, ...]]:
    """Rows of (system, recall, precision, precision of guessing)."""
    names = ("recall", "precision", "guessed")
    return [
        (report["labels"][key], *(f"{shares[name]:.1%}" if shares["targets"] else "-" for name in names))
        for key, shares in report["ground_truth"].items()
    ]


def _spread(mean: float, deviation: float | None, sign: str = "") -> str:
    return f"{mean:{sign}.4f}" if deviation is None else f"{mean:{sign}.4f} ± {deviation:.4f}"


def csv_tables(report: Plain) -> dict[str, str]:
    """Name -> CSV of every table that has rows; figures in full, None empty.

    Args:
        report: the content of `report.json`.
    """
    tables = {
        "quality": _quality(report),
        "seeds": _seeds(report),
        "paired": _of_systems(report, report["paired"], ("mean", "std", "n", "low", "high", "beyond_noise")),
        "history_length": _lengths(report),
        "consistency": _many(report, report["consistency"], ("size", "share")),
        "table_age": _rows(report["extras"].get("twin", {}).get("by_age") or (), ("age", "share", "moved")),
        "ablations": _ablations(report),
        "ground_truth": _of_systems(report, report["ground_truth"], ("targets", "recall", "precision", "guessed")),
        "cost": _cost(report),
        "tuning": _tuning(report),
    }
    return {name: as_csv(head, rows) for name, (head, rows) in tables.items() if rows}


Table = tuple[Sequence[str], list[Sequence[Any]]]


def _rows(found: Iterable[Plain], names: Sequence[str], before: Sequence[Any] = ()) -> Table:
    return names, [[*before, *(row.get(name) for name in names)] for row in found]


def _of_systems(report: Plain, found: Mapping[str, Plain], names: Sequence[str]) -> Table:
    """One row a system."""
    return _many(report, {key: [row] for key, row in found.items()}, names)


def _many(report: Plain, found: Mapping[str, Sequence[Plain]], names: Sequence[str]) -> Table:
    """Some rows a system."""
    rows = [row for key in found for row in _rows(found[key], names, (key, report["labels"][key]))[1]]
    return ("system", "label", *names), rows


def _quality(report: Plain) -> Table:
    """Systems, ablations and yardsticks."""
    names = [f"{metric}_{what}" for metric in METRICS for what in ("mean", "std", "low", "high")]
    rows: list[Sequence[Any]] = []
    for key, found in report["systems"].items():
        kind = "ablation" if key in report["ablations"] else "system"
        rows.append((key, report["labels"][key], kind, len(report["results"][key]), *(found[name] for name in names)))
    for key, found in report["yardsticks"].items():
        cells = [cell for metric in METRICS for cell in (found[metric], None, None, None)]
        rows.append((key, found["label"], "yardstick", None, *cells))
    return ("system", "label", "kind", "seeds", *names), rows


def _seeds(report: Plain) -> Table:
    names = ("seed", *METRICS, "train_seconds", "examples_per_s", "train_peak_rss_mb")
    return _many(report, report["results"], names)


def _lengths(report: Plain) -> Table:
    names = ("from", "to", "targets", "users", "auc", "gauc", "gauc_error")
    rows = [
        row
        for key, results in report["results"].items()
        for one in results
        for row in _rows(one["by_history_length"], names, (key, report["labels"][key], one["seed"]))[1]
    ]
    return ("system", "label", "seed", *names), rows


def _ablations(report: Plain) -> Table:
    return _of_systems(report, report["ablation"], ("auc_mean", "gauc_mean", "auc_lead", "gauc_lead"))


def _cost(report: Plain) -> Table:
    found: dict[str, JsonDict] = {key: extra["latency"] for key, extra in report["extras"].items()}
    return _of_systems(report, found, ("p50_ms", "p99_ms", "parameters"))


def _tuning(report: Plain) -> Table:
    tried = report["rates"]["valid_gauc"]
    rows: list[Sequence[Any]] = [
        (key, report["labels"].get(key, key), *Factors.parse(text), gauc)
        for key, found in tried.items()
        for text, gauc in found.items()
    ]
    return ("system", "label", "embedding_factor", "dense_factor", "valid_gauc"), rows
