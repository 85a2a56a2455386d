"""`report.md` of a comparison: what was found, each figure with what it shows and what it does not, and the tables."""

import statistics
from collections.abc import Mapping
from typing import Any

from twin_tf.core.markdown import plain, table
from twin_tf.core.result_cache import unused_section
from twin_tf.evaluation.verdicts import best_yardstick, not_beaten
from twin_tf.experiments.comparison.rates import at_the_edge, rate_rows
from twin_tf.experiments.comparison.summaries import beyond_noise, deviation, noise_text, paired
from twin_tf.experiments.comparison.tables import ablation_rows, ground_truth_rows, quality_rows

Plain = Mapping[str, Any]


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
        lines.append(_lead(report, best, metric))
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


def _lead(report: Plain, best: str, metric: str) -> str:
    """TWIN against the best other system: the difference of the seeds that both have, and whether it is noise."""
    results, mine = report["results"], report["systems"]["twin"][f"{metric}_mean"]
    text = f"{metric.upper()}: TWIN {mine:.4f}"
    by_seed = paired(results["twin"], results[best], metric)
    if not by_seed:
        return f"{text}; the best other system, {report['labels'][best]}, has no seed in common with it yet."
    spread, many = deviation(by_seed), len(by_seed)
    over = "one seed" if spread is None else f"± {spread:.4f} over {many} seeds"
    noise = noise_text(report["paired"][best], "; {}") if metric == "gauc" else ""
    if not noise and beyond_noise(by_seed, None, None) is False:
        noise = "; no more than noise: the seeds disagree in the sign" if many > 1 else "; no difference"
    return (
        f"{text}, {statistics.fmean(by_seed):+.4f} against the best other system, {report['labels'][best]} "
        f"({over}{noise})."
    )


def _code(report: Plain) -> str:
    """The commits that results are of, as a rule one."""
    found = [result.get("commit", "unknown") for results in report["results"].values() for result in results]
    return " and ".join(dict.fromkeys(found)) or report["commit"]


def page(report: Plain, drawn: set[str]) -> str:
    """The page.

    Args:
        report: the content of `report.json`.
        drawn: names of the figures that there are.
    """
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
    tables = {
        "quality": (_QUALITY_HEAD, quality_rows(report)),
        "ground_truth": (("system", "recall", "precision", "of guessing"), ground_truth_rows(report)),
    }
    if report["ablation"] and "twin" in results:
        tables["ablations"] = (_ABLATIONS_HEAD, ablation_rows(report))
    for name, title, alternative, shows, not_shown in _SECTIONS:
        picture = [f"![{alternative}]({name}.png)", ""] if name in drawn else []
        head, rows = tables.get(name, ((), []))
        if picture or rows:
            text = f"Shows: {shows.format(records=report['records'])} Does not show: {not_shown}"
            lines += [f"## {title}", "", *picture, text, "", *([*table(head, rows), ""] if rows else ())]
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


_QUALITY_HEAD = ("system", "AUC", "GAUC", "log loss", "TWIN's lead, GAUC", "its 95 % over users", "seeds")
_ABLATIONS_HEAD = (
    "system", "AUC", "GAUC", "TWIN's lead, AUC", "TWIN's lead, GAUC", "its 95 % over users", "request ms",
)  # fmt: skip

_SECTIONS = (
    (
        "quality",
        "Quality (the paper's table 4)",
        "GAUC and AUC by system",
        "the mean over the seeds, each seed, and the interval that the title names; ± in the table is the standard "
        "deviation over seeds. What needs no network is computed from the training part and strictly earlier events.",
        "which of two systems is better where their whiskers overlap: they share their users, so their difference "
        "varies less than either. For that see TWIN's lead.",
    ),
    (
        "paired",
        "TWIN's lead over each system",
        "GAUC of TWIN less that of each system",
        "differences with the same seed on the same targets, ablations too. 95 % by bootstrap over users. No more than "
        "noise (hollow; `(noise)` in the table): the interval holds 0, or the seeds disagree in the sign.",
        "what another training would give where there is one seed, for the interval is over users alone; nor is it "
        "corrected for how many systems are compared.",
    ),
    (
        "consistency",
        "Consistency of GSU and ESU (figure 4)",
        "Hits of the true top-100 by the number of behaviours retrieved",
        "of the 100 behaviours that the system's own ESU ranks highest over the whole history, the share that its "
        "search retrieves, by how many it may retrieve: the first seed on {records} records of the test split. TWIN "
        "with the live weights finds them all by construction, since search and attention have one metric.",
        "whether these are the behaviours that matter: each system is measured by its own attention.",
    ),
    (
        "table_age",
        "An ageing projection table (figure 4)",
        "Hits of TWIN's true top-100 by the age of the projection table",
        "TWIN searches in a table of projections that is refreshed every so often; this is what it finds of the true "
        "top-100 while tables and dense weights go on learning at their starting rates, and how far the projections of "
        "the behaviours looked at have moved since, as a share of their norm. A TWIN of the same settings, trained "
        "anew for 300 steps, on {records} records of the valid split.",
        "what a missed behaviour costs in GAUC, nor the age in minutes: that depends on the steps a minute. Where the "
        "projections hardly moved, hits near 100 % say little of a table that is older or learns faster.",
    ),
    (
        "history_length",
        "By history length (figure 5)",
        "GAUC by the number of behaviours before the target",
        "which system is ahead within a class: mean over the seeds of average pooling, DIN, TWIN and the two best "
        "others; whiskers are two standard errors over users.",
        "what a longer history is worth: each class holds other targets, mostly of other users. For that the histories "
        "of the same targets are cut: `twin-tf evaluate --cut-history 10,50,200`.",
    ),
    (
        "ablations",
        "Ablations (figure 6)",
        "GAUC and request time of TWIN without its parts",
        "the first seed, TWIN's too. Request time: one request in TensorFlow Serving's session, see Cost.",
        "what another seed would give. Whiskers are of one system; the table has the interval of the difference.",
    ),
    (
        "ground_truth",
        "Which planted behaviours each search finds",
        "GAUC by the share of relevant behaviours retrieved",
        "simulated logs know with which interest a user met each video: a behaviour is relevant to a target of the "
        "same interest. Recall: of a target's relevant behaviours, the share that the search retrieves; precision: of "
        "what it retrieves, the share that is relevant; of guessing: the precision of a random choice.",
        "a cause: systems differ in more than their recall. Systems that choose no behaviours are missing.",
    ),
)
"""Figure, title, alternative text, what it shows and what it does not."""


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
