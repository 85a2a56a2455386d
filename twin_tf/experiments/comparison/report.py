"""What people read after a comparison: `report.md` and its figures; programs read `report.json`.

`report.json` holds `systems.<key>.{auc,gauc,logloss}_{mean,std}`, `paired.<key>`, `yardsticks.<key>`,
`consistency.<key>`, `length.<key>`, `ablation.<key>` and everything they were computed from.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twin_tf.core.markdown import plain, table
from twin_tf.core.result_cache import unused_section
from twin_tf.evaluation.user_figures import UserFigures, gauc_difference
from twin_tf.evaluation.verdicts import best_yardstick, not_beaten
from twin_tf.experiments.comparison import figures
from twin_tf.experiments.comparison.rates import at_the_edge, rate_rows

METRICS = ("auc", "gauc", "logloss")

Plain = Mapping[str, Any]


def summary(results: Sequence[Plain]) -> dict[str, float | None]:
    """Means and standard deviations over the seeds; the latter None for a single one."""
    found: dict[str, float | None] = {}
    for metric in METRICS:
        values = [result[metric] for result in results]
        found[f"{metric}_mean"] = statistics.fmean(values)
        found[f"{metric}_std"] = statistics.stdev(values) if len(values) > 1 else None
    return found


def paired(mine: Sequence[Plain], theirs: Sequence[Plain], metric: str) -> tuple[float, float | None]:
    """The mean difference over the seeds that both have, and its standard deviation (None for a single one)."""
    other = {result["seed"]: result[metric] for result in theirs}
    found = [result[metric] - other[result["seed"]] for result in mine if result["seed"] in other]
    return statistics.fmean(found), statistics.stdev(found) if len(found) > 1 else None


def paired_gauc(mine: Sequence[Plain], theirs: Sequence[Plain]) -> dict[str, Any]:
    """GAUC of the first less that of the second over the seeds that both have.

    Returns:
        `mean`, `std` (None for a single seed), `n`, and `low` and `high`: 95 % by bootstrap over users, None where an
        evaluation did not keep its users' figures.
    """
    mean, deviation = paired(mine, theirs, "gauc")
    other = {result["seed"]: result for result in theirs}
    both = [(result, other[result["seed"]]) for result in mine if result["seed"] in other]
    kept = [[_users(one) for one in pair] for pair in both]
    pairs = [(first, second) for first, second in kept if first is not None and second is not None]
    low, high = (gauc_difference(pairs) if len(pairs) == len(both) else None) or (None, None)
    return {"mean": mean, "std": deviation, "n": len(both), "low": low, "high": high}


def _users(result: Plain) -> UserFigures | None:
    return UserFigures.load(Path(result["run"]), "test") if "run" in result else None


def write_comparison(workdir: Path, report: Plain) -> None:
    """Writes `report.json`, `report.md` and the figures, of what there is so far."""
    results, extras, labels = report["results"], report["extras"], report["labels"]
    main = {key: found for key, found in results.items() if key not in report["ablations"]}
    content = {
        **report,
        "systems": {key: summary(found) for key, found in results.items()},
        "paired": {
            key: paired_gauc(results["twin"], found)
            for key, found in results.items()
            if key != "twin" and found and results.get("twin")
        },
        "consistency": {key: extra["by_size"] for key, extra in extras.items() if extra.get("by_size")},
        "length": {key: _by_length(found) for key, found in results.items()},
        "ablation": {key: _ablated(results, key) for key in report["ablations"] if key in results},
        "ground_truth": {key: extra["ground_truth"] for key, extra in extras.items() if extra.get("ground_truth")},
    }
    drawn = {"quality.png": figures.quality(main, labels, report["yardsticks"])} if main else {}
    if "twin" in main:
        drawn["history_length.png"] = figures.by_length(main, labels)
    if content["consistency"]:
        drawn["consistency.png"] = figures.consistency(content["consistency"], labels)
    if extras.get("twin", {}).get("by_age"):
        drawn["table_age.png"] = figures.table_age(extras["twin"]["by_age"])
    found = {key: shares for key, shares in content["ground_truth"].items() if key in main and shares["targets"]}
    if len(found) > 1:
        drawn["ground_truth.png"] = figures.ground_truth(found, main, labels)
    ablated = [key for key in ("twin", *report["ablations"]) if key in extras and key in results]
    if len(ablated) > 1:
        drawn["ablations.png"] = figures.ablations(ablated, results, extras, labels)
    for name in _FIGURES:
        if name in drawn:
            (workdir / name).write_bytes(drawn[name])
        else:
            (workdir / name).unlink(missing_ok=True)  # of an earlier comparison here, of other systems
    (workdir / "report.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (workdir / "report.md").write_text(_page(content, set(drawn)), encoding="utf-8")


def _ablated(results: Mapping[str, Sequence[Plain]], key: str) -> dict[str, float | None]:
    """Means, and TWIN's lead with the same seeds."""
    found = summary(results[key])
    for metric in ("auc", "gauc"):
        found[f"{metric}_lead"] = paired(results["twin"], results[key], metric)[0] if "twin" in results else None
    return found


def _by_length(results: Sequence[Plain]) -> list[dict[str, Any]]:
    """Classes of history length with the mean of GAUC over the seeds; None where a seed has none."""
    rows = zip(*(result["by_history_length"] for result in results), strict=True)
    found = []
    for seeds in rows:
        gauc = [row["gauc"] for row in seeds]
        mean = None if None in gauc else statistics.fmean(gauc)
        found.append({name: seeds[0][name] for name in ("from", "to", "targets")} | {"gauc": mean})
    return found


def quality_rows(report: Plain) -> list[tuple[str, ...]]:
    """Rows of (system, AUC, GAUC, log loss, TWIN's lead in GAUC, seeds), the yardsticks at the end."""
    rows = []
    twin = report["results"].get("twin", ())
    for key, found in report["results"].items():
        if key not in report["ablations"]:
            means = report["systems"][key]
            cells = [_spread(means[f"{metric}_mean"], means[f"{metric}_std"]) for metric in METRICS]
            lead = "-" if key == "twin" or not twin else _spread(*paired(twin, found, "gauc"), sign="+")
            rows.append((report["labels"][key], *cells, lead, str(len(found))))
    for found in report["yardsticks"].values():
        cells = ["-" if found[metric] is None else f"{found[metric]:.4f}" for metric in METRICS]
        rows.append((f"{found['label']} (no network)", *cells, "-", "-"))
    return rows


def findings(report: Plain) -> list[str]:
    """What a reader should take away, one sentence each."""
    results, labels = report["results"], report["labels"]
    others = [key for key in results if key not in (*report["ablations"], "twin")]
    lines, done = [], sum(map(len, results.values()))
    if done < report["trainings"] or set(report["labels"]) - set(report["extras"]):
        lines = [f"Not finished ({done} of {report['trainings']} trainings done): run the same command again."]
    if "twin" not in results:
        return lines
    if not others:
        mine = report["systems"]["twin"]
        return [*lines, f"TWIN alone: AUC {mine['auc_mean']:.4f}, GAUC {mine['gauc_mean']:.4f}."]
    for metric in ("auc", "gauc"):
        best = max(others, key=lambda key: report["systems"][key][f"{metric}_mean"])
        difference, deviation = paired(results["twin"], results[best], metric)
        pairs = min(len(results["twin"]), len(results[best]))
        over = f" (± {deviation:.4f} over {pairs} seeds)" if deviation is not None else " (one seed)"
        mine = report["systems"]["twin"][f"{metric}_mean"]
        lines.append(
            f"{metric.upper()}: TWIN {mine:.4f}, {difference:+.4f} against the best other system, {labels[best]}{over}."
        )
    best = best_yardstick(report["yardsticks"], "gauc")
    if best is not None:
        other = report["yardsticks"][best]
        below = [labels[key] for key in results if report["systems"][key]["gauc_mean"] <= other["gauc"]]
        beaten = f"{', '.join(below)} do not beat it" if below else "every system is above it"
        lines.append(
            f"The best of what needs no network, {other['label']}, reaches GAUC {other['gauc']:.4f}: {beaten}."
        )
        means = {metric: report["systems"]["twin"][f"{metric}_mean"] for metric in ("auc", "gauc")}
        lost = not_beaten(means, report["yardsticks"], "TWIN")
        lines += [] if lost is None else [f"{lost}."]
    return lines


def ablation_rows(report: Plain) -> list[tuple[str, ...]]:
    """Rows of (system, AUC, GAUC, TWIN's lead in both with the same seed, request ms), TWIN with that seed first."""
    results, seed = report["results"], report["seeds"][0]
    rows = []
    for key in ("twin", *report["ablation"]):
        found = next(result for result in results[key] if result["seed"] == seed)
        leads = [report["ablation"][key][f"{metric}_lead"] for metric in ("auc", "gauc")] if key != "twin" else []
        shown = [f"{lead:+.4f}" for lead in leads] or ["-", "-"]
        extra = report["extras"].get(key)
        cost = f"{extra['latency']['p50_ms']:.1f}" if extra else "-"
        rows.append((report["labels"][key], f"{found['auc']:.4f}", f"{found['gauc']:.4f}", *shown, cost))
    return rows


def _code(report: Plain) -> str:
    """The commits that results are of, as a rule one."""
    found = [result.get("commit", "unknown") for results in report["results"].values() for result in results]
    return " and ".join(dict.fromkeys(found)) or report["commit"]


def _page(report: Plain, drawn: set[str]) -> str:
    results = report["results"]
    lines = [f"# Comparison on {plain(report['data'])}", "", *(f"* {line}" for line in findings(report)), ""]
    targets = ", ".join(f"{count:,} {split}" for split, count in report["targets"].items())
    lines += [
        f"Targets: {targets}. {report['epochs']} epoch(s), seeds {', '.join(map(str, report['seeds']))}; every system "
        f"sees the same records, the latest {report['history_length']:,} behaviours; only the search differs, "
        "ablations and systems of --also apart. What a search does not see, such as all but the latest behaviours in "
        "DIN, its network does not count either. "
        f"{_relevance_statistics(report)} "
        f"{_budget(report['rates'])}",
        "",
        f"Code: {_code(report)}; {report['machine']['cpus']} processors; the command took {report['seconds'] / 60:.0f} "
        "minutes until now, all its calls together.",
        "",
    ]
    if "quality.png" in drawn:
        lines += ["## Quality (the paper's table 4)", "", "![AUC and GAUC by system](quality.png)", ""]
        lines += [*table(("system", "AUC", "GAUC", "log loss", "TWIN's lead, GAUC", "seeds"), quality_rows(report)), ""]
    for name, title, alternative, text in _SECTIONS:
        if name in drawn:
            lines += [f"## {title}", "", f"![{alternative}]({name})", "", text.format(records=report["records"]), ""]
        if name == "ablations.png" and report["ablation"] and "twin" in results:
            head = ("system", "AUC", "GAUC", "TWIN's lead, AUC", "TWIN's lead, GAUC", "request ms")
            lines += [*table(head, ablation_rows(report)), ""]
    if report["ground_truth"]:
        lines += ["## Which planted behaviours each search finds", ""]
        if "ground_truth.png" in drawn:
            lines += ["![GAUC by the share of relevant behaviours retrieved](ground_truth.png)", ""]
        lines += [
            _GROUND_TRUTH,
            "",
            *table(("system", "recall", "precision", "of guessing"), _ground_truth_rows(report)),
            "",
        ]
    if report["rates"]["valid_gauc"]:
        text = (
            "GAUC of the validation records, one seed; the best pair of factors was kept. Factors multiply the "
            "configuration's learning rates of the tables and of the dense weights"
        )
        if report["rates"].get("valid"):
            valid = report["rates"]["valid"]
            text += (
                f". {valid['targets']:,} targets of {valid['users']:,} users: one figure has a standard error of "
                f"{valid['gauc_error']:.4f} over users, a difference on the same targets less"
            )
        edge = [report["labels"].get(key, key) for key in at_the_edge(report["rates"])]
        text += (
            f"; at the edge of what was tried, where more might be better still: {', '.join(edge)}." if edge else "."
        )
        lines += ["## Tuning", "", text, ""]
        columns = ("system", "table rate x", "dense rate x", "GAUC", "next best", "worst", "trials")
        lines += [*table(columns, rate_rows(report["rates"], report["labels"])), ""]
    if report["extras"]:
        lines += ["## Cost", "", *_cost(report), ""]
    lines += unused_section(report.get("unused", ()))
    return "\n".join(lines)


_SECTIONS = (
    (
        "consistency.png",
        "Consistency of GSU and ESU (figure 4)",
        "Hits of the true top-100 by the number of behaviours retrieved",
        "Of the 100 behaviours that the system's own ESU ranks highest over the whole history, the share that its "
        "search retrieves, by how many it may retrieve: the first seed on {records} records of the test split. TWIN "
        "with the live weights finds them all by construction, since search and attention have one metric.",
    ),
    (
        "table_age.png",
        "An ageing projection table (figure 4)",
        "Hits of TWIN's true top-100 by the age of the projection table",
        "TWIN searches in a table of projections that is refreshed every so often; this is what it finds of the true "
        "top-100 while the weights go on learning at their starting rates. A TWIN of the same settings, after 300 "
        "steps of training, on {records} records of the valid split.",
    ),
    (
        "history_length.png",
        "By history length (figure 5)",
        "GAUC by the number of behaviours before the target",
        "Mean over the seeds; average pooling, DIN, TWIN and the two best others.",
    ),
    (
        "ablations.png",
        "Ablations (figure 6)",
        "GAUC and request time of TWIN without its parts",
        "The first seed, TWIN's too. Request time: one request in TensorFlow Serving's session, see Cost.",
    ),
)


_FIGURES = ("quality.png", "ground_truth.png", *(name for name, *_ in _SECTIONS))

_GROUND_TRUTH = (
    "Simulated logs know with which interest a user met each video: a behaviour is relevant to a target of the same "
    "interest. Covered: of a target's relevant behaviours, the share that the search retrieves; precision: of what it "
    "retrieves, the share that is relevant; of guessing: the precision of a random choice."
)


def _ground_truth_rows(report: Plain) -> list[tuple[str, ...]]:
    names = ("recall", "precision", "guessed")
    return [
        (report["labels"][key], *(f"{shares[name]:.1%}" if shares["targets"] else "-" for name in names))
        for key, shares in report["ground_truth"].items()
    ]


def _relevance_statistics(report: Plain) -> str:
    """Which systems show the mixer the relevance statistics."""
    results = report["results"].items()
    shown = {report["labels"][key]: found[0].get("relevance_statistics", False) for key, found in results}
    if len(set(shown.values())) < 2:
        return f"`model.relevance_statistics` is {str(any(shown.values())).lower()} in all."
    return f"`model.relevance_statistics` is true in {', '.join(name for name, on in shown.items() if on)}."


def _budget(rates: Plain) -> str:
    if not rates["valid_gauc"]:
        return "All have the same learning rates; none was tuned in this comparison."
    embedding, dense = (", ".join(f"{factor:g}" for factor in rates[name]) for name in ("embedding", "dense"))
    origin = rates["origin"]
    where = (
        f"Rates are those of an earlier comparison, on {plain(origin['data'])}, save of what it lacked: "
        if origin
        else ""
    )
    if report_code := rates.get("other_code"):
        where += f"they were chosen by other code, commit {report_code}, and are settings here, not results; "
    return (
        f"{where}{'e' if where else 'E'}ach tried {embedding} times the configured learning rate of the tables with "
        f"{dense} times that of the dense weights, and once more beyond the best of a rate if that was the smallest or "
        "largest, with one seed, and kept what was best on the validation records; ablations have TWIN's."
    )


def _cost(report: Plain) -> list[str]:
    rows = []
    for key, extra in report["extras"].items():
        first = report["results"][key][0]
        peak = first["train_peak_rss_mb"]
        rows.append(
            (
                report["labels"][key],
                f"{first['examples_per_s']:,.0f}",
                f"{first['train_seconds']:,.0f}",
                "-" if peak is None else f"{peak / 1e3:.1f}",
                f"{extra['latency']['parameters'] / 1e6:.2f}",
                f"{extra['latency']['p50_ms']:.1f}",
            )
        )
    head = ("system", "examples/s", "training s", "peak GB", "parameters, M", "request ms")
    jobs = max((report["results"][key][0].get("trained_at_once") or 1 for key in report["extras"]), default=1)
    together = [] if jobs == 1 else [f"Trainings ran {jobs} at a time, each with its share of the processors.", ""]
    return [
        *table(head, rows),
        "",
        *together,
        "Request: p50 of one user with 10,000 behaviours and 100 candidates, items drawn at random from the catalogue, "
        "in TensorFlow Serving's session, without the wire. The item half of the attention is gathered from a table, "
        "save in raw MHTA, average pooling and memory. What ETA, SDIM and learned SIM search by (signatures, "
        "projections) and what average pooling and memory take in is computed in the request, though it depends on the "
        "item alone too: a table of it would make them faster.",
    ]


def _spread(mean: float, deviation: float | None, sign: str = "") -> str:
    return f"{mean:{sign}.4f}" if deviation is None else f"{mean:{sign}.4f} ± {deviation:.4f}"
