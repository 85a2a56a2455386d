"""The GSU strategies: how 100 behaviours are retrieved. One file each, behind one protocol and this registry.

Only the search differs between systems; the rest of the network is identical, as in the paper.
"""

from typing import Any

from twin_tf.config import ModelConfig
from twin_tf.core.dataclass_yaml import ConfigError, nearest
from twin_tf.features.schema import FeatureSchema
from twin_tf.search.avg_pooling import AvgPoolingSearch
from twin_tf.search.din import DinSearch
from twin_tf.search.eta import EtaSearch
from twin_tf.search.mimn import MimnSearch
from twin_tf.search.protocol import SearchInputs, SearchStrategy
from twin_tf.search.sdim import SdimSearch
from twin_tf.search.sim_cluster import SimClusterSearch
from twin_tf.search.sim_hard import SimHardSearch
from twin_tf.search.sim_soft import SimSoftSearch
from twin_tf.search.sim_soft_learned import SimSoftLearnedSearch
from twin_tf.search.twin import TwinSearch
from twin_tf.search.ubr4ctr import Ubr4ctrSearch

STRATEGIES: dict[str, type[SearchStrategy]] = {
    strategy.name: strategy
    for strategy in (
        AvgPoolingSearch,
        DinSearch,
        EtaSearch,
        MimnSearch,
        SdimSearch,
        SimClusterSearch,
        SimHardSearch,
        SimSoftLearnedSearch,
        SimSoftSearch,
        TwinSearch,
        Ubr4ctrSearch,
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
    own = strategy.arguments(config, schema, width, seed)
    return strategy(config.top_k, config.history_length, **own)


def search_from_config(config: dict[str, Any]) -> SearchStrategy:
    """The strategy of `SearchStrategy.get_config`."""
    return find_strategy(config["name"])(**{key: value for key, value in config.items() if key != "name"})


__all__ = ["STRATEGIES", "SearchInputs", "SearchStrategy", "find_strategy", "make_search", "search_from_config"]
