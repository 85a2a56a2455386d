"""The searches by name and the settings that each has of its own: `model.searches.<search>.<setting>`.

Without TensorFlow, so that every command checks them when it reads its configuration. `twin_tf.search` has a strategy
for each name.
"""

import dataclasses

from twin_tf.core.dataclass_yaml import ConfigError

SEARCHES = (
    "avg_pooling", "din", "eta", "mimn", "sdim", "sim_cluster", "sim_hard", "sim_soft", "sim_soft_learned", "twin",
    "ubr4ctr",
)  # fmt: skip
"""What `model.search` may be."""


@dataclasses.dataclass(frozen=True)
class EtaSettings:
    """ETA.

    Attributes:
        bits: m, of a SimHash signature.
    """

    bits: int = 48

    def __post_init__(self) -> None:
        _at_least_one(bits=self.bits)


@dataclasses.dataclass(frozen=True)
class MimnSettings:
    """The memory in the manner of MIMN.

    Attributes:
        slots: entries of the memory.
    """

    slots: int = 8

    def __post_init__(self) -> None:
        _at_least_one(slots=self.slots)


@dataclasses.dataclass(frozen=True)
class SdimSettings:
    """SDIM.

    Attributes:
        bits: m, of all rounds together; a multiple of `round_bits`.
        round_bits: tau, of a round.
    """

    bits: int = 48
    round_bits: int = 3

    def __post_init__(self) -> None:
        _at_least_one(bits=self.bits, round_bits=self.round_bits)


@dataclasses.dataclass(frozen=True)
class SimClusterSettings:
    """SIM Cluster; SIM Cluster+ has ten times the clusters.

    Attributes:
        clusters: of items.
    """

    clusters: int = 1000

    def __post_init__(self) -> None:
        _at_least_one(clusters=self.clusters)


@dataclasses.dataclass(frozen=True)
class SimHardSettings:
    """SIM Hard.

    Attributes:
        category: the inherent feature that a behaviour must share with the target; `twin-tf compare` counts by it too.
    """

    category: str | None = None


@dataclasses.dataclass(frozen=True)
class SearchSettings:
    """The settings of every search that has some; only those of `model.search` reach the network."""

    eta: EtaSettings = dataclasses.field(default_factory=EtaSettings)
    mimn: MimnSettings = dataclasses.field(default_factory=MimnSettings)
    sdim: SdimSettings = dataclasses.field(default_factory=SdimSettings)
    sim_cluster: SimClusterSettings = dataclasses.field(default_factory=SimClusterSettings)
    sim_hard: SimHardSettings = dataclasses.field(default_factory=SimHardSettings)


def _at_least_one(**settings: int) -> None:
    for name, value in settings.items():
        if value < 1:
            raise ConfigError(f"{name} must be at least 1, not {value}")
