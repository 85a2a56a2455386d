"""What people read of the figures of `twin_tf.training.table_movement`. No TensorFlow."""

from collections.abc import Mapping
from typing import Any

WORTHLESS_ROWS = 1000
"""A table with more updated rows than this is expected to be worth something."""

WORTHLESS = 1e-4
"""Nats of log loss per target: a table whose worth is certainly less is worth nothing."""

HEAD = ("table", "rows trained", "never trained", "moved, median", "moved, p90", "worth, nats")

Tables = Mapping[str, Mapping[str, Any]]


def table_rows(tables: Tables) -> list[tuple[str, ...]]:
    """Rows for `HEAD`, the most worth first."""
    ordered = sorted(tables.items(), key=lambda one: -(one[1]["worth"] or 0.0))
    return [
        (
            name,
            f"{figures['updated_rows']:,}",
            f"{figures['never_updated']:.0%}",
            f"{figures['moved_median']:.1%}",
            f"{figures['moved_p90']:.1%}",
            "-" if figures["worth"] is None else f"{figures['worth']:+.5f} ± {figures['worth_error']:.5f}",
        )
        for name, figures in ordered
    ]


def worthless_tables(tables: Tables) -> list[str]:
    """A sentence on each table with many updated rows that is worth nothing, beyond the noise."""
    return [
        f"the table {name} is worth nothing: with its {figures['updated_rows']:,} trained rows put back to their "
        f"start, the validation log loss changes by {figures['worth']:+.5f}; rows moved by "
        f"{figures['moved_median']:.2%} of their norm (median). Look at training.embedding_learning_rate and "
        "training.table_gradient"
        for name, figures in tables.items()
        if figures["worth"] is not None
        and figures["updated_rows"] > WORTHLESS_ROWS
        and figures["worth"] + 2 * figures["worth_error"] < WORTHLESS
    ]
