"""The systems of the papers, as settings that differ from TWIN's own."""

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from twin_tf.core.dataclass_yaml import ConfigError, nearest
from twin_tf.experiments.experiment import Variant
from twin_tf.renamed_settings import current_overrides, warn_of
from twin_tf.search import find_strategy
from twin_tf.training_settings import TrainingConfig


class Factors(NamedTuple):
    """What the configured learning rates are multiplied by.

    Attributes:
        embedding: of AdaGrad's rate for the tables.
        dense: of Adam's rate for all else.
    """

    embedding: float = 1.0
    dense: float = 1.0

    def __str__(self) -> str:
        return f"{self.embedding:g}/{self.dense:g}"

    @classmethod
    def parse(cls, text: str) -> "Factors":
        """The factors that `str` wrote.

        Raises:
            ValueError: it did not.
        """
        embedding, dense = text.split("/")
        return cls(float(embedding), float(dense))


class System(NamedTuple):
    """One system.

    Attributes:
        key: of its figures.
        label: in tables and figures.
        search: the strategy.
        settings: `model.<setting>=value` besides the search.
        ablation: whether it is TWIN without a part, for the paper's figure 6.
    """

    key: str
    label: str
    search: str
    settings: tuple[str, ...] = ()
    ablation: bool = False

    @property
    def needs_embeddings(self) -> bool:
        """Whether it searches by frozen item embeddings."""
        return find_strategy(self.search).needs_embeddings

    def variant(self, embeddings: str, training: TrainingConfig, factors: Factors) -> Variant:
        """What to train.

        Args:
            embeddings: directory of frozen item embeddings.
            training: settings that all systems share.
            factors: of its learning rates.
        """
        overrides = [f"model.search={self.search}", *(f"model.{setting}" for setting in self.settings)]
        if self.needs_embeddings:
            overrides.append(f"training.item_embeddings={json.dumps(embeddings)}")
        for rate, factor in factors._asdict().items():
            if factor != 1:
                name = f"{rate}_learning_rate"
                overrides.append(f"training.{name}={getattr(training, name) * factor:.6g}")
        return Variant(self.key, self.label, tuple(overrides))


SYSTEMS = {
    system.key: system
    for system in (
        System("avg_pooling", "average pooling", "avg_pooling"),
        System("mimn", "memory (MIMN-like)", "mimn"),
        System("din", "DIN", "din"),
        System("sim_hard", "SIM Hard", "sim_hard"),
        System("ubr4ctr", "BM25 (UBR4CTR's retrieval)", "ubr4ctr"),
        System("sim_cluster", "SIM Cluster", "sim_cluster", ("searches.sim_cluster.clusters=1000",)),
        System("sim_cluster_plus", "SIM Cluster+", "sim_cluster", ("searches.sim_cluster.clusters=10000",)),
        System("sim_soft", "SIM Soft, pretrained", "sim_soft"),
        System("sim_soft_learned", "SIM Soft, learned", "sim_soft_learned"),
        System("eta", "ETA", "eta", ("searches.eta.bits=32",)),
        System("sdim", "SDIM", "sdim", ("searches.sdim.bits=48", "searches.sdim.round_bits=3")),
        System("twin", "TWIN", "twin"),
        System("twin_auxiliary", "TWIN without consistency", "twin", ("consistency=auxiliary",), True),
        System("twin_no_bias", "TWIN without bias", "twin", ("bias=false",), True),
        System("twin_raw", "raw MHTA", "twin", ("relevance=raw",), True),
    )
}
"""In the order of tables, TWIN behind the systems that it is compared with."""


def own_system(text: str) -> System:
    """A system that somebody describes: `label: setting=value ...`, settings of `model`; TWIN but for those.

    Earlier names of settings and searches are taken, with a warning.

    Raises:
        ConfigError: no label, no setting, an unknown search, or a label of another system.
    """
    label, _, rest = text.partition(":")
    label, given = label.strip(), dict.fromkeys(rest.split())
    key = re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")
    if not key or not given or not all(re.fullmatch(r"[\w.]+=\S+", setting) for setting in given):
        raise ConfigError(f"--also must read 'label: setting=value ...' with settings of model, not {text!r}")
    if key in SYSTEMS or label in {system.label for system in SYSTEMS.values()}:
        raise ConfigError(f"--also {label!r}: there is a system of that name already; give it another label")
    current, renamed = current_overrides([f"model.{setting}" for setting in given])
    warn_of(renamed, stacklevel=3)
    settings = [setting.removeprefix("model.") for setting in current]
    search = next((s.partition("=")[2] for s in settings if s.startswith("search=")), "twin")
    find_strategy(search)
    return System(key, label, search, tuple(s for s in settings if not s.startswith("search=")))


def chosen_systems(names: str, also: Sequence[str] = ()) -> list[System]:
    """The systems of a comparison, TWIN and its ablations last.

    Args:
        names: separated by commas; `all`, or `main` for all but the ablations.
        also: further ones, see `own_system`.

    Raises:
        ConfigError: an unknown system, two of one name, or TWIN is not among them.
    """
    more = [own_system(text) for text in also]
    if len({system.key for system in more}) < len(more):
        raise ConfigError("--also: two systems have the same label; give them different ones")
    found = _named(names)
    place = next(place for place, system in enumerate(found) if system.key == "twin")
    return [*found[:place], *more, *found[place:]]


def _named(names: str) -> list[System]:
    if names == "all":
        return list(SYSTEMS.values())
    if names == "main":
        return [system for system in SYSTEMS.values() if not system.ablation]
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in SYSTEMS:
            raise ConfigError(f"no system {name!r}{nearest(name, SYSTEMS)}; there are {', '.join(SYSTEMS)}")
    if "twin" not in wanted:
        raise ConfigError("the systems must include twin: it is what the others are compared with")
    return [system for key, system in SYSTEMS.items() if key in wanted]
