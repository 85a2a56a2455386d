"""One user's history with most of its behaviours in clusters: what TWIN-V2 reads instead of 10^5 behaviours.

The behaviours before a *moment* are clustered, but for the latest of them; what came at the moment or later stays as it
is. A cluster becomes one entry: the item, and every cross feature that is not averaged, of the member nearest to the
centroid; the mean of the members' times; the mean of a numeric cross feature, as an index again; and its size. NumPy
only.

References:
    TWIN-V2, arXiv 2407.16357.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from beam_pipelines.clustering.recursive_kmeans import split_recursively
from twin_tf.config import ClusterConfig
from twin_tf.features.encoders import FeatureEncoder
from twin_tf.features.schema import UNKNOWN

_BLOCK = 16_384  # behaviours whose distances are computed at a time
_DECIMALS = 9  # of distances between vectors of length 1: what differs less is equal

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Behaviours:
    """A history in the order of time, `(n,)` each.

    Attributes:
        item: item rows.
        time: not falling, in the unit of the logs.
        cross: stored cross feature -> indices.
        number: those of them whose values are kept -> float32, NaN where unknown.
        count: how many behaviours an entry stands for.
    """

    item: Ints
    time: Ints
    cross: Mapping[str, Ints]
    number: Mapping[str, Floats]
    count: Ints

    def __len__(self) -> int:
        return len(self.item)

    def at(self, places: Ints | slice) -> "Behaviours":
        """Some of them."""
        cross = {name: index[places] for name, index in self.cross.items()}
        number = {name: values[places] for name, values in self.number.items()}
        return Behaviours(self.item[places], self.time[places], cross, number, self.count[places])


class HistoryClusterer:
    """Clusters histories. The same history gives the same clusters.

    Args:
        vectors: float32 `(items, width)`, by item row, of length 1 or 0; see `unit_vectors`.
        encoder: of the prepared data.
        settings: how.
    """

    def __init__(self, vectors: Floats, encoder: FeatureEncoder, settings: ClusterConfig) -> None:
        self._vectors = vectors
        self._encoder = encoder
        self._settings = settings

    def members(self, history: Behaviours) -> Ints:
        """The cluster of each behaviour, `(n,)`: 0, 1, 2, ... by its earliest member."""
        settings = self._settings
        return split_recursively(
            self._vectors_of(history),
            self._groups(history),
            gamma=settings.gamma,
            exponent=settings.exponent,
            seed=settings.seed,
        )

    def _vectors_of(self, history: Behaviours) -> Floats:
        return self._vectors[np.where(history.item < len(self._vectors), history.item, UNKNOWN)]

    def _groups(self, history: Behaviours) -> Ints:
        """The bin of each behaviour's completion ratio; those without one are a group of their own."""
        name, bins = self._settings.completion, self._settings.groups
        if name is None:
            return np.zeros(len(history), np.int64)
        share = history.number[name].astype(np.float64)
        known = np.isfinite(share)
        within = np.minimum(np.floor(np.clip(np.where(known, share, 0.0), 0.0, 1.0) * bins), bins - 1)
        return np.where(known, within, bins).astype(np.int64)

    def compress(self, history: Behaviours) -> tuple[Behaviours, Ints]:
        """One entry a cluster, by mean time, and of equal times by earliest member; and each behaviour's entry."""
        if not len(history):
            return history, np.zeros(0, np.int64)
        cluster = self.members(history)
        size = np.bincount(cluster)
        order = np.argsort(cluster, kind="stable")
        first = np.concatenate([[0], np.cumsum(size)[:-1]])
        nearest = self._nearest(history, cluster, order, first, size)
        entries = history.at(nearest)
        since = history.time - history.time[0]
        time = history.time[0] + np.add.reduceat(since[order], first) // size
        cross = {name: self._mean_index(name, history, order, first, entries.cross[name]) for name in history.number}
        entries = dataclasses.replace(entries, time=time, cross={**entries.cross, **cross}, count=size)
        by_time = np.argsort(time, kind="stable")
        place = np.empty_like(by_time)
        place[by_time] = np.arange(len(by_time))
        return entries.at(by_time), place[cluster]

    def _nearest(self, history: Behaviours, cluster: Ints, order: Ints, first: Ints, size: Ints) -> Ints:
        """The member nearest to each centroid; of several, as in every cluster of two, the latest."""
        vectors = self._vectors_of(history)
        centroid = np.add.reduceat(vectors[order].astype(np.float64), first, axis=0) / size[:, None]
        distance = np.empty(len(cluster))
        for start in range(0, len(cluster), _BLOCK):
            part = slice(start, start + _BLOCK)
            distance[part] = np.square(vectors[part] - centroid[cluster[part]]).sum(axis=1)
        ranked = np.lexsort([-np.arange(len(cluster)), distance.round(_DECIMALS), cluster])
        return ranked[first]

    def _mean_index(self, name: str, history: Behaviours, order: Ints, first: Ints, nearest: Ints) -> Ints:
        """The index of the mean of the members' numbers, unknown ones left out; of none, that of the nearest member."""
        values = history.number[name][order].astype(np.float64)
        index = history.cross[name][order]
        known = np.isfinite(values) & (index != UNKNOWN)
        total = np.add.reduceat(np.where(known, values, 0.0), first)
        count = np.add.reduceat(known.astype(np.int64), first)
        mean = self._encoder.encode(name, np.where(count > 0, total / np.maximum(count, 1), np.nan)).astype(np.int64)
        # Records hold float32: a mean that rounding moved over a boundary lies between the members' own indices again.
        lowest = np.minimum.reduceat(np.where(known, index, np.iinfo(np.int64).max), first)
        highest = np.maximum.reduceat(np.where(known, index, UNKNOWN), first)
        return np.where(count > 0, np.clip(mean, np.minimum(lowest, highest), highest), nearest)


def unit_vectors(embeddings: Floats) -> tuple[Floats, int]:
    """Embeddings at length 1, and how many have none: those that are zero or not finite become zero.

    Args:
        embeddings: float32 `(items, width)`.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        length = np.sqrt(np.square(embeddings.astype(np.float64)).sum(axis=1, keepdims=True))
    sound = np.isfinite(length) & (length > 0)
    vectors = np.where(sound, embeddings / np.where(sound, length, 1.0), 0.0)
    return vectors.astype(np.float32), int((~sound).sum())


def joined(parts: list[Behaviours]) -> Behaviours:
    """Histories one after the other."""
    return Behaviours(
        np.concatenate([part.item for part in parts]),
        np.concatenate([part.time for part in parts]),
        {name: np.concatenate([part.cross[name] for part in parts]) for name in parts[0].cross},
        {name: np.concatenate([part.number[name] for part in parts]) for name in parts[0].number},
        np.concatenate([part.count for part in parts]),
    )
