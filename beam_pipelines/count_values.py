"""Counts that merge: of values, for vocabularies, and of numbers, for quantiles; the order never matters."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints = npt.NDArray[np.int64]

MAX_DISTINCT = 1 << 22


@dataclasses.dataclass
class ValueCounts:
    """Distinct values and how often each was seen; `values` is an Arrow array of ints, floats or text."""

    values: pa.Array
    counts: Ints

    @classmethod
    def of(cls, values: pa.Array, weights: Ints | None = None) -> "ValueCounts":
        """Counts the values that are not null; with `weights`, each weighs so much (0 keeps the value)."""
        if isinstance(values, pa.ChunkedArray):
            values = values.combine_chunks()
        if weights is None:
            counted = values.drop_null().value_counts()
            return cls(counted.field("values"), counted.field("counts").to_numpy())
        table = pa.table({"value": values, "count": weights}).filter(values.is_valid())
        grouped = table.group_by("value", use_threads=False).aggregate([("count", "sum")])
        return cls(grouped["value"].combine_chunks(), grouped["count_sum"].to_numpy())

    @classmethod
    def merge(cls, parts: Sequence["ValueCounts"]) -> "ValueCounts":
        """The counts of all parts together."""
        if len(parts) == 1:
            return parts[0]
        values = pa.chunked_array([part.values for part in parts])
        return cls.of(values, np.concatenate([part.counts for part in parts]))

    def at_least(self, minimum: int) -> list[str]:
        """The values seen at least `minimum` (and once) as text; numbers in numeric order, text in text order."""
        kept = self.values.filter(pa.array(self.counts >= max(1, minimum)))
        return [str(value) for value in kept.take(pc.array_sort_indices(kept)).to_pylist()]


@dataclasses.dataclass
class Histogram:
    """Whole numbers and how often each was seen: exact up to `MAX_DISTINCT` distinct numbers.

    Beyond, numbers are cut to a multiple of 2^level, with the smallest level at which `MAX_DISTINCT` suffice; that
    level, and so the whole histogram, is a function of the numbers seen, not of the order in which parts were merged.
    """

    keys: Ints
    counts: Ints
    level: int = 0

    @classmethod
    def of(cls, numbers: Ints, counts: Ints | None = None, level: int = 0) -> "Histogram":
        """Counts numbers (already cut to `level`)."""
        if counts is None:
            keys, sums = np.unique(numbers, return_counts=True)
            return cls(keys, sums.astype(np.int64), level)._bounded()
        order = np.argsort(numbers, kind="stable")
        numbers, counts = numbers[order], counts[order]
        first = np.flatnonzero(np.r_[True, numbers[1:] != numbers[:-1]][: len(numbers)])
        sums = np.add.reduceat(counts, first) if len(first) else counts
        return cls(numbers[first], sums, level)._bounded()

    @classmethod
    def merge(cls, parts: Sequence["Histogram"]) -> "Histogram":
        """The histogram of all parts together."""
        if len(parts) == 1:
            return parts[0]
        level = max(part.level for part in parts)
        keys = np.concatenate([part.keys >> (level - part.level) for part in parts])
        return cls.of(keys, np.concatenate([part.counts for part in parts]), level)

    def _bounded(self) -> "Histogram":
        if len(self.keys) <= MAX_DISTINCT:
            return self
        return Histogram.of(self.keys >> 1, self.counts, self.level + 1)

    @property
    def total(self) -> int:
        """Numbers seen."""
        return int(self.counts.sum())

    def at_rank(self, rank: int) -> int:
        """The number with that many (from 0) at or before it in rising order."""
        place = int(np.searchsorted(np.cumsum(self.counts), rank, side="right"))
        return int(self.keys[min(place, len(self.keys) - 1)]) << self.level


def sortable(numbers: npt.NDArray[np.float64]) -> Ints:
    """Finite floats to ints in the same order (both zeros are one), so that a `Histogram` can hold them."""
    bits = (numbers[np.isfinite(numbers)] + 0.0).view(np.int64)
    result: Ints = np.where(bits < 0, np.int64(-(2**63)) - bits - 1, bits)
    return result


def unsortable(key: int) -> float:
    """The inverse of `sortable` for one number."""
    bits = key if key >= 0 else -(2**63) - key - 1
    return float(np.array([bits], np.int64).view(np.float64)[0])


def quantiles(histogram: Histogram, parts: int) -> list[float]:
    """Rising, distinct boundaries that cut the floats of a `sortable` histogram into `parts` equal shares."""
    total = histogram.total
    if not total:
        return []
    return sorted({unsortable(histogram.at_rank(i * total // parts)) for i in range(1, parts)})


def merge_counts(parts: Sequence[Any]) -> Any:
    """Merges parts of one kind."""
    return type(parts[0]).merge(parts)
