"""Fixed hashes of ids, the same on every machine and in every run: which shard a user belongs to, who trains, draws."""

from typing import Any

import numpy as np
import numpy.typing as npt


def shard_of(users: npt.NDArray[np.int64], shards: int) -> npt.NDArray[np.int32]:
    """The shard of each user: a fixed mixing hash (SplitMix64) of the id, modulo `shards`."""
    return (mixed(users) % np.uint64(shards)).astype(np.int32)


def mixed(numbers: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """A fixed mixing hash (SplitMix64) of 64-bit whole numbers."""
    with np.errstate(over="ignore"):
        found = numbers.view(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        found = (found ^ (found >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        found = (found ^ (found >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        found ^= found >> np.uint64(31)
    return found
