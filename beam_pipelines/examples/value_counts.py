"""Counts that merge: of values, for vocabularies, and of numbers, for quantiles; the order never matters.

Values are cut into parts by a hash of the value, and each part is merged by itself, so no worker holds all of them.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_pipelines.examples.user_hash import mixed
from twin_tf.features.arrow_vocabulary import distinct, texts

Ints = npt.NDArray[np.int64]

MAX_PARTS = 64
"""Parts that items and values are cut into at most."""

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

    def __getstate__(self) -> dict[str, Any]:
        """What travels: most counts need a byte."""
        return {"values": self.values, "counts": _narrow(self.counts), "totals": _narrow(self.totals)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.values = state["values"]
        self.counts, self.totals = (state[name].astype(np.int64) for name in ("counts", "totals"))

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
        if pa.types.is_integer(values.type):
            known = values.is_valid().to_numpy(zero_copy_only=False)
            numbers = values.drop_null().to_numpy(zero_copy_only=False)
            order = np.argsort(numbers, kind="stable")
            numbers, counts, totals = (part[order] for part in (numbers, counts[known], totals[known]))
            first = np.flatnonzero(np.r_[True, numbers[1:] != numbers[:-1]][: len(numbers)])
            if len(first) < len(numbers):
                counts, totals = (np.add.reduceat(part, first) for part in (counts, totals))
            return cls(pa.array(numbers[first], values.type), counts, totals)
        encoded = distinct(values)
        place = encoded.indices.fill_null(-1).to_numpy()
        size = len(encoded.dictionary)
        known = place >= 0
        sums = [_sum_by(place[known], part[known], size) for part in (counts, totals)]
        seen = np.bincount(place[known], minlength=size) > 0
        return cls(encoded.dictionary.filter(pa.array(seen)), sums[0][seen], sums[1][seen])

    @classmethod
    def merge(cls, parts: Sequence["ValueCounts"]) -> "ValueCounts":
        """The counts of all parts together."""
        if len(parts) == 1:
            return parts[0]
        values = pa.chunked_array([part.values for part in parts])
        counts, totals = (np.concatenate([getattr(part, name) for part in parts]) for name in ("counts", "totals"))
        return cls._grouped(values, counts, totals)

    def rows(self, places: npt.NDArray[Any]) -> "ValueCounts":
        """Some of the values, by their places."""
        return ValueCounts(self.values.take(pa.array(places)), self.counts[places], self.totals[places])

    def sorted(self) -> "ValueCounts":
        """Numbers in numeric, text in text order."""
        return self.rows(pc.array_sort_indices(self.values).to_numpy())

    def cut(self, parts: int) -> Iterator[tuple[int, "ValueCounts"]]:
        """(part, values of that part), by a hash of the value; parts without values are left out."""
        if not len(self.values):
            return
        for part, places in cut_rows(part_of(self.values, parts), parts):
            yield part, self.rows(places)


def part_of(values: pa.Array, parts: int) -> npt.NDArray[np.int32]:
    """The part of each value: a fixed hash of it as text, modulo `parts`."""
    blocks = [_hashed(texts(values.slice(start, _BLOCK))) for start in range(0, len(values), _BLOCK)]
    return (np.concatenate([np.zeros(0, np.uint64), *blocks]) % np.uint64(parts)).astype(np.int32)


_BLOCK = 1 << 15


def _hashed(values: pa.Array) -> npt.NDArray[np.uint64]:
    """A sum over the bytes of each text, each times a random number of its place."""
    plain = values.cast(pa.large_binary())
    offsets = np.frombuffer(plain.buffers()[1], np.int64)[plain.offset : plain.offset + len(plain) + 1]
    sizes, starts = np.diff(offsets), offsets[:-1] - offsets[0]
    if not sizes.any():
        return mixed(sizes)
    text = np.frombuffer(plain.buffers()[2], np.uint8)[offsets[0] : offsets[-1]]
    weights = mixed(np.arange(int(sizes.max()), dtype=np.int64))
    with np.errstate(over="ignore"):
        weighed = (text + np.uint64(1)) * weights[np.arange(len(text)) - np.repeat(starts, sizes)]
        running = np.concatenate([np.zeros(1, np.uint64), np.cumsum(weighed)])
        return mixed(running[starts + sizes] - running[starts])


def cut_rows(part: npt.NDArray[np.int32], parts: int) -> Iterator[tuple[int, Ints]]:
    """(part, the rows of it in order), for the part of each row; parts without rows are left out."""
    order = np.argsort(part, kind="stable")
    ends = np.searchsorted(part[order], np.arange(parts + 1))
    for number in range(parts):
        if ends[number + 1] > ends[number]:
            yield number, order[ends[number] : ends[number + 1]]


def _narrow(counts: Ints) -> npt.NDArray[Any]:
    return counts.astype(np.min_scalar_type(int(counts.max(initial=0))))


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
