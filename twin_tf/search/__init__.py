"""The GSU strategies: how 100 finalists are chosen. One file each, behind one protocol and this registry.

Only the search differs between systems; the rest of the network is identical, as in the paper.
"""

from typing import Any

from twin_tf.config import ModelConfig
from twin_tf.core.dataclass_yaml import ConfigError, nearest
from twin_tf.features.schema import FeatureSchema
from twin_tf.search.average import AverageSearch
from twin_tf.search.bm25 import BM25Search
from twin_tf.search.category import CategorySearch
from twin_tf.search.consistent import ConsistentSearch
from twin_tf.search.hash_rounds import HashRoundsSearch
from twin_tf.search.inner_product import InnerProductSearch
from twin_tf.search.item_clusters import ItemClusterSearch
from twin_tf.search.learned_inner_product import LearnedInnerProductSearch
from twin_tf.search.memory import MemorySearch
from twin_tf.search.protocol import SearchInputs, SearchStrategy
from twin_tf.search.recent import RecentSearch
from twin_tf.search.simhash import SimHashSearch

STRATEGIES: dict[str, type[SearchStrategy]] = {
    strategy.name: strategy
    for strategy in (
        AverageSearch,
        BM25Search,
        CategorySearch,
        ConsistentSearch,
        HashRoundsSearch,
        InnerProductSearch,
        ItemClusterSearch,
        LearnedInnerProductSearch,
        MemorySearch,
        RecentSearch,
        SimHashSearch,
    )
}


def find_strategy(name: str) -> type[SearchStrategy]:
    """The strategy called `name`.

    Raises:
        ConfigError: no such strategy.
    """
    if name not in STRATEGIES:
        raise ConfigError(f"model.search {name!r} is not known{nearest(name, STRATEGIES)}")
    return STRATEGIES[name]


def make_search(config: ModelConfig, schema: FeatureSchema, width: int, seed: int) -> SearchStrategy:
    """The strategy that a configuration names.

    Args:
        config: the network's settings.
        schema: the feature schema.
        width: H, of K_h in eq. 6.
        seed: of random choices.

    Raises:
        ConfigError: no such strategy, or a setting that it needs is missing or wrong.
    """
    strategy = find_strategy(config.search)
    own = strategy.settings(config, schema, width, seed)
    return strategy(config.top_k, config.history_length, **own)


def search_from_config(config: dict[str, Any]) -> SearchStrategy:
    """The strategy of `SearchStrategy.get_config`."""
    return find_strategy(config["name"])(**{key: value for key, value in config.items() if key != "name"})


__all__ = ["STRATEGIES", "SearchInputs", "SearchStrategy", "find_strategy", "make_search", "search_from_config"]
