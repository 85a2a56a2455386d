"""Counts of many shards, merged where they are made: thousands of shards else send the next step thousands of parts."""

from collections.abc import Iterator
from typing import Any

MOST_ROWS = 1 << 21
"""Values that are held at most; then all are handed on."""
_FEW_ROWS = 1 << 17


class GatheredCounts:
    """Parts that merge (`value_counts`, `day_counts`), by key.

    A key's parts are merged when those that came since are twice as large as what is merged: so values are merged a few
    times only, however many parts there are.
    """

    def __init__(self) -> None:
        self._merged: dict[str, Any] = {}
        self._waiting: dict[str, list[Any]] = {}

    def add(self, key: str, part: Any) -> Iterator[tuple[str, Any]]:
        """Takes a part; yields (key, part) of everything once there is much of it."""
        waiting = self._waiting.setdefault(key, [])
        waiting.append(part)
        if _rows(waiting) >= max(_FEW_ROWS, 2 * _rows([self._merged[key]] if key in self._merged else [])):
            self._merge(key)
            if _rows(self._merged.values()) >= MOST_ROWS:
                yield from self.flush()

    def flush(self) -> Iterator[tuple[str, Any]]:
        """Yields (key, part) of everything."""
        for key in list(self._waiting):
            self._merge(key)
        merged, self._merged = self._merged, {}
        yield from merged.items()

    def _merge(self, key: str) -> None:
        parts = self._waiting.pop(key)
        if key in self._merged:
            parts.append(self._merged.pop(key))
        self._merged[key] = type(parts[0]).merge(parts)


def _rows(parts: Any) -> int:
    return sum(len(part.counts) for part in parts)
