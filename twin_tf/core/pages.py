"""Pages for people: Markdown with PNG figures beside it, or without any where matplotlib is not installed."""

import importlib.util
from collections.abc import Collection, Mapping
from pathlib import Path

from twin_tf.core.files import write_whole

NO_FIGURES = "There are no figures, because matplotlib is not installed where this page was written."


def can_draw() -> bool:
    """Whether figures can be drawn here."""
    return importlib.util.find_spec("matplotlib") is not None


def figure_lines(drawn: Collection[str], name: str, title: str, shows: str, hides: str) -> list[str]:
    """A figure on a page, and one line on how to read it; nothing if it was not drawn.

    Args:
        drawn: the figures that lie beside the page.
        name: of its file.
        title: for those who cannot see it.
        shows: what it shows, a sentence.
        hides: what it does not show, a sentence.
    """
    if name not in drawn:
        return []
    return [f"![{title}]({name})", "", f"*Shows:* {shows} *Does not show:* {hides}", ""]


def write_page(directory: Path, name: str, text: str, figures: Mapping[str, bytes | None]) -> None:
    """Writes a page and its figures; one of an earlier page that is None now is removed."""
    for figure, content in figures.items():
        if content is None:
            (directory / figure).unlink(missing_ok=True)
        else:
            (directory / figure).write_bytes(content)
    write_whole(directory / name, text)
