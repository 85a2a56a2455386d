"""Parts of Markdown pages."""

import re
from collections.abc import Sequence

# Whatever may begin code, a link, markup or a column; an underscore only where it does not stand inside a word.
_MARKS = re.compile(r"[\\|*`<\[]|(?<![^\W_])_|_(?![^\W_])")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def plain(text: str) -> str:
    """Foreign text on one line that means itself, in a sentence or a table."""
    return _MARKS.sub(lambda mark: f"\\{mark[0]}", " ".join(text.split()))


def code(text: str) -> str:
    """A name as code; as plain text where it holds what would end the code."""
    one_line = " ".join(text.split())
    return plain(text) if not one_line or set("`|") & set(one_line) else f"`{one_line}`"
