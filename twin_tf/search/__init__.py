"""The GSU strategies: how 100 finalists are chosen. One file each, behind one protocol and this registry.

Only the search differs between systems; the rest of the network is identical, as in the paper.
"""

from twin_tf.search.consistent import ConsistentSearch
from twin_tf.search.protocol import SearchInputs, SearchStrategy
from twin_tf.search.recent import RecentSearch
from twin_tf.strict_yaml import ConfigError, nearest

STRATEGIES: dict[str, type[SearchStrategy]] = {strategy.name: strategy for strategy in (ConsistentSearch, RecentSearch)}


def make_search(name: str, retrieved: int, history_length: int) -> SearchStrategy:
    """The strategy called `name`.

    Args:
        name: a key of `STRATEGIES`.
        retrieved: K, finalists per target.
        history_length: L, behaviours in sight of a target.

    Raises:
        ConfigError: no such strategy.
    """
    if name not in STRATEGIES:
        raise ConfigError(f"model.search {name!r} is not known{nearest(name, STRATEGIES)}")
    return STRATEGIES[name](retrieved, history_length)


__all__ = ["STRATEGIES", "SearchInputs", "SearchStrategy", "make_search"]
