"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere; always on stderr."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PLAIN_SECONDS = 20.0

Advance = Callable[[int, str], None]

_shown: list[Progress] = []
"""The bars of pieces of work within each other; the last one moves, since two would draw over each other."""


@contextmanager
def progress_bar(description: str, total: int, done: int = 0) -> Iterator[Advance]:
    """Shows how far a piece of work has come.

    Args:
        description: what is being done.
        total: how many units there are.
        done: how many of them were done before.

    Yields:
        `advance(units, note)`: units done since the last call, and a short text to show beside the bar.
    """
    if sys.stderr.isatty():
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        bar = Progress(*columns, console=Console(stderr=True))
        task = bar.add_task(description, total=total, completed=done, note="")
        with _on_top(bar):
            yield lambda units, note: bar.update(task, advance=units, note=note)
        return
    started = last = time.monotonic()

    def advance(units: int, note: str) -> None:
        nonlocal done, last
        done += units
        now = time.monotonic()
        if now - last >= PLAIN_SECONDS:
            last = now
            print(f"{description}: {done:,} of {total:,} ({now - started:.0f} s) {note}", file=sys.stderr, flush=True)

    yield advance
    print(f"{description}: {done:,} done in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


@contextmanager
def _on_top(bar: Progress) -> Iterator[None]:
    outer = _shown[-1] if _shown else None
    if outer is not None:
        outer.stop()
    _shown.append(bar)
    try:
        with bar:
            yield
    finally:
        _shown.pop()
        if outer is not None:
            outer.start()
