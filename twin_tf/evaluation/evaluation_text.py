"""What `evaluate_run` returns, as tables and sentences for people. No TensorFlow."""

from collections.abc import Mapping, Sequence
from typing import Any

from twin_tf.evaluation.sliced_evaluation import DAY, HISTORY, ITEM, USER

COLUMNS = ("targets", "users", "auc", "gauc", "logloss", "calibration")


def evaluation_text(result: Mapping[str, Any]) -> str:
    """The whole split, its slices, what needs no network, then sentences."""
    lengths = result["by_history_length"]
    spans = [f"{row['from']:,}+" if row["to"] is None else f"{row['from']:,} to {row['to'] - 1:,}" for row in lengths]
    rows = [(result["split"], result["metrics"])]
    rows += [(f"history {span}", row) for span, row in zip(spans, lengths, strict=True)]
    rows += [(f"{row['items']} items", row) for row in result["by_item"] or ()]
    for name, sliced in result.get("slices", {}).items():
        if name == USER:
            rows += [(f"{row['value']} users", row) for row in sliced]
        elif name not in (HISTORY, ITEM, DAY):
            rows += [(f"{name} {row['value']}", row) for row in sliced]
    rows += [(found["label"], found) for found in result.get("yardsticks", {}).values()]
    cells = [("", *COLUMNS), *((name, *(printed(row[column]) for column in COLUMNS)) for name, row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    lines = []
    for name, *figures in cells:
        padded = [figure.rjust(width) for figure, width in zip(figures, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *padded]))
    whole = result["metrics"]
    lines.append(
        f"gauc weighs a user by impressions; by clicks it is {printed(whole['gauc_by_clicks'])}, with all users alike "
        f"{printed(whole['gauc_uniform'])}; {whole['users_of_one_class']:,} users without both labels are left out"
    )
    lines += sentences(result)
    if result["by_item"] is None:
        lines.append("no slices by known and new items: the run does not say which items it was trained on")
    return "\n".join(lines)


def sentences(result: Mapping[str, Any]) -> list[str]:
    """What the tables do not say; of what was not computed, nothing."""
    lines = []
    if "intervals" in result:
        shown = [f"{name} {span(result['intervals'][name])}" for name in ("auc", "gauc", "logloss")]
        lines.append(f"95 % over users: {', '.join(shown)}")
    if "requests" in result:
        lines.append(requests_sentence(result["requests"], result["intervals"]))
    if result.get("worst_slices"):
        worst = result["worst_slices"][:3]
        shown = [f"{row['slice']} {row['value']} ({printed(row['auc'])}, {row['targets']:,} targets)" for row in worst]
        lines.append(f"lowest auc beyond chance: {', '.join(shown)}")
    if result.get("not_beaten"):
        lines.append(result["not_beaten"])
    if "against" in result:
        lines.append(result["against"]["sentence"])
    if "history_worth" in result:
        cuts = [
            f"{'all' if row['history'] is None else format(row['history'], ',')} {printed(row['gauc'])}"
            for row in result["history_worth"]
        ]
        lines.append(f"gauc of the same targets by behaviours left of their history: {', '.join(cuts)}")
    return lines


def requests_sentence(found: Mapping[str, Any], intervals: Mapping[str, Any]) -> str:
    """How well the candidates of a request are ordered."""
    without = found["without_id"]
    left_out = f"; targets without a request id, left out: {without:,}" if without else ""
    if not found["requests"]:
        return f"no metrics by request: no two targets with both labels share {found['grouped_by']}{left_out}"
    figures = [f"{name} {printed(found[name])} ({span(intervals[f'request_{name}'])})" for name in ("auc", "ndcg")]
    return (
        f"within {found['requests']:,} requests ({found['targets']:,} targets; the same {found['grouped_by']}, both "
        f"labels): {', '.join(figures)}{left_out}"
    )


def span(interval: Sequence[float] | None) -> str:
    """`.7100 to .7300`."""
    return "no interval" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"


def printed(value: float | int | None) -> str:
    """`0.7123`, `1,234` or `none`."""
    if value is None:
        return "none"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
