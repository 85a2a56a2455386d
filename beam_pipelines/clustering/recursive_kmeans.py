"""Recursive k-means, the offline half of TWIN-V2: clusters of at most gamma near vectors.

A set V is split into delta(V) = max(2, floor(|V|^exponent)) clusters by k-means; whatever is larger than gamma is split
again. A call of k-means for each set would spend its time in calls: here all sets of a level are laid into stacks of
sets of similar size, and one batched product assigns all members of a stack.

References:
    TWIN-V2, arXiv 2407.16357.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

ROUNDS = 6
"""Lloyd's steps of each split at most."""

STACK_NUMBERS = 1 << 22
"""Numbers in a stack's vectors, unless a single set has more."""

SIMILAR = 1.25
"""The largest set of a stack by its smallest: shorter ones are filled up with nothing."""

_ROUNDING = 1e-9
"""So that a power that is a whole number in truth does not fall below it."""


def split_recursively(vectors: Floats, group: Ints, *, gamma: int = 20, exponent: float = 0.3, seed: int = 1) -> Ints:
    """Clusters of at most `gamma` vectors each. The same arguments give the same clusters.

    Vectors that k-means cannot tell apart are cut by their order.

    Args:
        vectors: float32 `(n, width)`, finite, in the order of time.
        group: int `(n,)`; no cluster holds vectors of two groups.
        gamma: the largest size of a cluster.
        exponent: of delta.
        seed: of the first centroids.

    Returns:
        int64 `(n,)`, the cluster of each vector: 0, 1, 2, ... by its earliest member.

    Raises:
        ValueError: a vector is not finite, gamma is below 1, or exponent is not above 0 and at most 1.
    """
    if gamma < 1:
        raise ValueError(f"gamma is {gamma}, a cluster has at least 1 member")
    if not 0 < exponent <= 1:
        raise ValueError(f"exponent is {exponent}, it must be above 0 and at most 1")
    if not np.isfinite(vectors).all():
        raise ValueError("a vector is not finite")
    generator = np.random.default_rng(seed)
    cluster = np.unique(group, return_inverse=True)[1].astype(np.int64)
    clusters = int(cluster.max(initial=-1)) + 1
    while True:
        sizes = np.bincount(cluster, minlength=clusters)
        large = np.flatnonzero(sizes > gamma)
        if not len(large):
            return _by_first_member(cluster)
        members = np.flatnonzero((sizes > gamma)[cluster])
        members = members[np.argsort(cluster[members], kind="stable")]
        stops = np.cumsum(sizes[large])
        for chosen in _stacks(sizes[large], vectors.shape[1]):
            count = sizes[large[chosen]]
            place = (stops[chosen] - count)[:, None] + np.minimum(np.arange(count.max()), count[:, None] - 1)
            rows, real = members[place], np.arange(count.max()) < count[:, None]
            child = _split(vectors[rows], real, count, gamma, exponent, generator)
            most = int(child.max()) + 1
            cluster[rows[real]] = (clusters + np.arange(len(chosen))[:, None] * most + child)[real]
            clusters += len(chosen) * most


def _stacks(sizes: Ints, width: int) -> list[Ints]:
    """Places of the sets that make a stack each."""
    order = np.argsort(sizes, kind="stable")
    stacks, first = [], 0
    for last in range(1, len(order) + 1):
        if last < len(order):
            largest = sizes[order[last]]
            if largest <= SIMILAR * sizes[order[first]] and (last + 1 - first) * largest * width <= STACK_NUMBERS:
                continue
        stacks.append(order[first:last])
        first = last
    return stacks


def _split(
    stack: Floats, real: Bools, count: Ints, gamma: int, exponent: float, generator: np.random.Generator
) -> Ints:
    """One split of every set of a stack.

    Args:
        stack: `(sets, height, width)`, where not real anything finite.
        real: `(sets, height)`, the first `count` of each set.
        count: `(sets,)` members, all more than gamma.
        gamma: see `split_recursively`; so are exponent and generator's seed.
        exponent: see there.
        generator: of the first centroids.

    Returns:
        `(sets, height)`, the number of each member's part; 0 where not real.
    """
    parts = np.maximum(2, np.floor(count**exponent + _ROUNDING).astype(np.int64))
    child = _kmeans(stack, real, parts, generator)
    inseparable = np.all(child == child[:, :1], axis=1, where=real)
    pieces = -(-count // gamma)
    in_order = np.arange(stack.shape[1]) * pieces[:, None] // count[:, None]
    return np.where(real, np.where(inseparable[:, None], in_order, child), 0)


def _kmeans(stack: Floats, real: Bools, parts: Ints, generator: np.random.Generator) -> Ints:
    """Lloyd's algorithm on every set of a stack, from `parts` different members each: `(sets, height)`."""
    most = int(parts.max())
    draw = np.where(real, generator.random(real.shape), 2.0)
    drawn = np.argpartition(draw, most - 1, axis=1)[:, :most]  # a set has more members than parts
    centroids = np.take_along_axis(stack, drawn[..., None], axis=1)
    absent, number = np.arange(most) >= parts[:, None], np.arange(most)
    child = np.full(real.shape, -1)
    for _ in range(ROUNDS):
        squared = np.where(absent, np.inf, np.einsum("skw,skw->sk", centroids, centroids))
        nearest = (squared[:, None] - 2 * np.matmul(stack, centroids.transpose(0, 2, 1))).argmin(axis=2)
        if np.array_equal(nearest, child):
            break
        child = nearest
        belongs = ((child[..., None] == number) & real[..., None]).astype(np.float32)
        size = belongs.sum(axis=1)[..., None]
        total = np.matmul(belongs.transpose(0, 2, 1), stack)
        centroids = np.where(size > 0, total / np.maximum(size, 1), centroids)
    return child


def _by_first_member(cluster: Ints) -> Ints:
    _, first, inverse = np.unique(cluster, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    return rank[inverse]
