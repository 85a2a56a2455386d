"""The page of `retrieved_behaviours`, for people who do not know the model. No TensorFlow."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np

from twin_tf.core.markdown import plain, table
from twin_tf.core.pages import NO_FIGURES, can_draw, write_page
from twin_tf.features.events import TimeColumn
from twin_tf.features.schema import load_schema
from twin_tf.records.format import SCHEMA

Found = Mapping[str, Any]

_HOW = (
    "For each user: the latest click of the split, and beside it the nearest target in time that was not clicked. The "
    "search takes the behaviours that it holds relevant to the target, the attention weighs them; weights of a target "
    "add up to 100 %. They say what the model looks at. They do not say that it is right, or that these behaviours "
    "caused a click."
)

_NOTHING = (
    "Nothing to show: no user has both a click and a target without one, or the search pools behaviours and retrieves "
    "none."
)


def write_retrieved(run: Path, split: str, found: Sequence[Found] | None) -> None:
    """Writes `retrieved-<split>.md` and a figure a user into a run.

    Args:
        run: its directory.
        split: whose targets.
        found: of `retrieved_behaviours`; None removes what an earlier call wrote.
    """
    for old in run.glob(f"retrieved-{split}*"):
        old.unlink()
    if found is None:
        return
    figures = {}
    if can_draw():
        from twin_tf.evaluation.retrieved_figure import retrieved_figure

        figures = {f"retrieved-{split}-{n}.png": retrieved_figure(user) for n, user in enumerate(found, start=1)}
    column = load_schema(run / SCHEMA).events.time
    write_page(run, f"retrieved-{split}.md", retrieved_page(found, column, list(figures)), figures)


def retrieved_page(found: Sequence[Found], column: TimeColumn, figures: Sequence[str]) -> str:
    """Markdown.

    Args:
        found: of `retrieved_behaviours`.
        column: of the times.
        figures: file names, one a user; fewer where there are none.
    """
    lines = ["# What the search retrieves", ""]
    if not found:
        return "\n".join([*lines, _NOTHING, ""])
    lines += [_HOW, "", *([] if figures else [NO_FIGURES, ""])]
    for number, user in enumerate(found):
        lines += [f"## User {user['user']}", ""]
        if number < len(figures):
            lines += [f"![Behaviours by the days before the target, and their weights]({figures[number]})", ""]
        for target in user["targets"]:
            lines += [f"### {'Clicked' if target['label'] else 'Not clicked'}: {plain(target['name'])}", ""]
            lines += [_sentence(target, column), ""]
            if target["top"]:
                rows = [
                    (plain(one["name"]), _date(one["time"], column), str(one["count"]), f"{one['weight']:.1%}")
                    for one in target["top"]
                ]
                clustered = any(one["count"] != 1 for one in target["top"])
                head = ("behaviour", "when", "stands for", "weight")
                kept = range(4) if clustered else (0, 1, 3)
                lines += [*table([head[c] for c in kept], [[row[c] for c in kept] for row in rows]), ""]
    return "\n".join(lines)


def _sentence(target: Found, column: TimeColumn) -> str:
    where = f"Shown on {_date(target['time'], column)}; the model gives a click {target['probability']:.0%}."
    if not target["seen"]:
        return f"{where} The user has no history."
    shown = sum(one["weight"] for one in target["top"])
    sentence = (
        f"{where} Of {target['seen']:,} earlier behaviours the search takes {target['retrieved']:,}; the "
        f"{len(target['top'])} below hold {shown:.0%} of the weight."
    )
    same = target["same_category"]
    if not target["retrieved"]:
        return sentence
    return (
        f"{sentence} The target's own {target['category']} is that of {same['retrieved'] / target['retrieved']:.0%} of "
        f"what is retrieved ({same['retrieved']:,}) and of {same['seen'] / target['seen']:.0%} of the history "
        f"({same['seen']:,})."
    )


def _date(time: int, column: TimeColumn) -> str:
    local = int(column.local_seconds(np.array(time)))
    return (datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=local)).strftime("%Y-%m-%d %H:%M")
