"""Counts that merge: of values, for vocabularies, and of numbers, for quantiles; the order never matters."""

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints = npt.NDArray[np.int64]

MAX_DISTINCT = 1 << 22
ITEM_COUNTS = "item/counts"  # keys of figures about items; no feature is called so
ITEM_NAMES = "item/names"
ITEM_DAYS = "item/days"


@dataclasses.dataclass
class ValueCounts:
    """Distinct values and how often each was seen.

    Attributes:
        values: Arrow array of ints, floats or text, without null.
        counts: in the training window, `(values,)`.
        totals: anywhere, `(values,)`.
    """

    values: pa.Array
    counts: Ints
    totals: Ints

    @classmethod
    def of(cls, values: pa.Array | pa.ChunkedArray, counted: npt.NDArray[Any] | None = None) -> "ValueCounts":
        """Counts the values that are not null.

        Args:
            values: `(rows,)`, a dictionary array too.
            counted: `(rows,)` how much each row weighs in `counts`; one if left out.
        """
        if counted is None:
            counted = np.ones(len(values), np.int64)
        return cls._grouped(values, counted.astype(np.int64), np.ones(len(values), np.int64))

    @classmethod
    def _grouped(cls, values: pa.Array | pa.ChunkedArray, counts: Ints, totals: Ints) -> "ValueCounts":
        plain = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
        if isinstance(plain, pa.ChunkedArray):  # combining several dictionaries may give one chunk or none
            plain = plain.unify_dictionaries().chunk(0) if plain.num_chunks else pa.array([], plain.type)
        if pa.types.is_dictionary(plain.type):
            place = plain.indices.fill_null(-1).to_numpy()
            size = len(plain.dictionary)
            known = place >= 0
            sums = [_sum_by(place[known], part[known], size) for part in (counts, totals)]
            seen = np.bincount(place[known], minlength=size) > 0
            kept = plain.dictionary.filter(pa.array(seen))
            return cls(kept, sums[0][seen], sums[1][seen])
        if not len(plain):
            return cls(plain, counts, totals)
        return cls._grouped(plain.dictionary_encode(), counts, totals)

    @classmethod
    def merge(cls, parts: Sequence["ValueCounts"]) -> "ValueCounts":
        """The counts of all parts together."""
        if len(parts) == 1:
            return parts[0]
        values = pa.chunked_array([part.values for part in parts])
        counts, totals = (np.concatenate([getattr(part, name) for part in parts]) for name in ("counts", "totals"))
        return cls._grouped(values, counts, totals)

    def at_least(self, minimum: int) -> list[str]:
        """The values counted at least `minimum` times (and once) as text; numbers in numeric, text in text order."""
        kept = self.values.filter(pa.array(self.counts >= max(1, minimum)))
        return [str(value) for value in kept.take(pc.array_sort_indices(kept)).to_pylist()]

    def without(self, known: Collection[str]) -> "ValueCounts":
        """The values that are not among `known` (as text), in order."""
        order = pc.array_sort_indices(self.values).to_numpy()
        kept = order[[str(value) not in known for value in self.values.take(pa.array(order)).to_pylist()]]
        return ValueCounts(self.values.take(pa.array(kept)), self.counts[kept], self.totals[kept])


def _sum_by(place: Ints, weights: Ints, size: int) -> Ints:
    sums = np.zeros(size, np.int64)
    np.add.at(sums, place, weights)
    return sums


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
