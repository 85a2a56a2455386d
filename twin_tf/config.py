"""Model, training and serving settings: frozen dataclasses, read from YAML, changed by `--set a.b=c`.

A configuration file has up to five sections, each with defaults: `schema` (see `twin_tf.features.schema`), `model`,
`clusters`, `training` and `serving`.

Example:
    >>> config = load_config("twin_tf/configs/complete_journey.yaml", ["model.heads=2", "training.epochs=1"])
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from twin_tf.core.dataclass_yaml import ConfigError, build, nearest, to_plain
from twin_tf.core.yaml_text import dump_yaml, parse_yaml, read_yaml
from twin_tf.features.schema import LONGEST_HISTORY, FeatureSchema, schema_from_mapping
from twin_tf.renamed_settings import current_names, current_overrides, warn_of
from twin_tf.search_settings import SEARCHES, SearchSettings
from twin_tf.training_settings import PRESETS, TrainingConfig

LARGEST_EXPONENT = 0.7
"""Of delta(V): with more, a split of 10^5 behaviours would hold more numbers than a machine has."""

Stages = Literal["both", "search", "attention", "neither"]


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The network.

    Attributes:
        search: the GSU strategy, one of `twin_tf.search_settings.SEARCHES`; docs/training.md describes them.
        searches: the settings of each search by its name, see `twin_tf.search_settings`. Those of all are checked,
            those of `search` are used.
        history_length: L, how many of a target's latest behaviours the GSU sees.
        top_k: how many behaviours the GSU retrieves for the ESU (paper: 100).
        heads: attention heads (paper: 4).
        head_size: d_k, the width of a projected query and item per head, and of a value per head.
        bias: whether cross features bias the relevance (eq. 6); off is the paper's ablation.
        relevance: `split` is eq. 6; `raw` projects every behaviour as a whole (plain multi-head target attention, the
            paper's ablation), which nothing can compute ahead.
        consistency: `shared` lets the GSU search with the ESU's own parameters; `auxiliary` with those of a second
            twin that is trained beside the first on the same batches (the paper's ablation).
        decoupled_embeddings: a table of its own, `decoupled_dim` wide at most per feature, for the relevance of both
            stages (DARE, beyond the paper); V and the mixer keep the full one.
        decoupled_dim: see `decoupled_embeddings`.
        precision: `bfloat16` rounds the operands and results of products to bfloat16; weights, the bias of eq. 6,
            softmax and sums stay float32.
        projection_init: `per_feature` starts head a as the inner product of the a-th inherent feature's embedding
            (W^q = W^h = a selection of its columns); `tied` starts both at one random matrix, `independent` at two.
        relevance_init_scale: how many times as large all relevance starts. With `per_feature`, a behaviour with the
            target's own value of a feature starts at about `relevance_init_scale * embedding_scale ** 2`, 4 by default,
            an irrelevant one around 0. With more, only equal values count; with less, similar ones do too.
        relevance_statistics: show the mixer, per head, logsumexp and maximum of the relevance of the retrieved
            behaviours, minus the relevance of the target to itself. Beyond the paper.
        null_key: a head of the long-term attention may look at nothing, and the search leaves out what is less relevant
            than that to every head (`twin_tf.layers.null_key`). Beyond the paper.
        graded_counts: show the mixer, per head, soft counts of the retrieved behaviours around these shares of the
            target's relevance to itself (`twin_tf.layers.graded_counts`), such as [1.0, 0.7, 0.4]. Beyond the paper.
        equality_bias: equal values of an inherent feature add a learned number to the relevance, per head, in both
            stages (`twin_tf.layers.equality_bias`). Beyond the paper.
        short_term_length: the latest behaviours attended by the short-term block (paper: 50); 0 leaves the block out.
        mixer: widths of the dense + ReLU layers under the logit.
        embedding_scale: expected norm of a new embedding of an inherent feature, times `head_size ** 0.25`. Small, so
            that what is learned soon outweighs the random start; `relevance_init_scale` makes up for it.
        crosses: feature crosses (DCN-v2) of the mixer's input, stacked under its dense layers. Beyond the paper.
        cross_projection: rank of a cross's matrix; null leaves it whole.
        cluster_size_bias: the stages that add ln n of a behaviour that stands for a cluster of n (TWIN-V2: both). It
            changes nothing where histories are not clustered.
    """

    search: str = "twin"
    searches: SearchSettings = dataclasses.field(default_factory=SearchSettings)
    history_length: int = 10_000
    top_k: int = 100
    heads: int = 4
    head_size: int = 16
    bias: bool = True
    relevance: Literal["split", "raw"] = "split"
    consistency: Literal["shared", "auxiliary"] = "shared"
    decoupled_embeddings: bool = False
    decoupled_dim: int = 8
    precision: Literal["float32", "bfloat16"] = "float32"
    projection_init: Literal["per_feature", "tied", "independent"] = "tied"
    relevance_init_scale: float = 100.0
    relevance_statistics: bool = False
    null_key: bool = False
    graded_counts: tuple[float, ...] = ()
    equality_bias: bool = False
    short_term_length: int = 50
    mixer: tuple[int, ...] = (128, 64)
    embedding_scale: float = 0.2
    crosses: int = 0
    cross_projection: int | None = None
    cluster_size_bias: Stages = "both"

    def __post_init__(self) -> None:
        if self.search not in SEARCHES:
            raise ConfigError(f"search {self.search!r} is not known{nearest(self.search, SEARCHES)}")
        for name in ("history_length", "top_k", "heads", "head_size", "decoupled_dim"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 < self.relevance_init_scale <= 1000:
            raise ConfigError(
                f"relevance_init_scale must be positive and at most 1000, not {self.relevance_init_scale}"
            )
        if self.short_term_length < 0:
            raise ConfigError(f"short_term_length must not be negative, not {self.short_term_length}")
        if any(not 0 <= level <= 2 for level in self.graded_counts):
            raise ConfigError(f"graded_counts must lie between 0 and 2, not {list(self.graded_counts)}")
        if self.crosses < 0:
            raise ConfigError(f"crosses must not be negative, not {self.crosses}")
        if self.cross_projection is not None and self.cross_projection < 1:
            raise ConfigError(f"cross_projection must be at least 1, not {self.cross_projection}")

    def in_use(self) -> dict[str, Any]:
        """Every setting that the network depends on, by name; of `searches` those of the chosen search alone."""
        found = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "searches"}
        own = to_plain(getattr(self.searches, self.search, {}), defaults=True)
        return found | {f"searches.{self.search}.{key}": value for key, value in own.items()}


@dataclasses.dataclass(frozen=True)
class ServingConfig:
    """The exported model.

    Attributes:
        warmup_lengths: history widths that warm-up requests carry.
        warmup_candidates: candidate counts that warm-up requests carry.
        max_candidates: how many candidates, or items of `item_projection`, one user's row may hold. The graph refuses
            more: the scores of a call need memory in proportion to candidates times behaviours.
        probes: requests with the trainer's own scores that `validate` replays.
        table: type of the projection table. `float16` and `bfloat16` halve it; the search and the attention then both
            read the rounded rows. A model of `precision: bfloat16` loses nothing with a bfloat16 table.
    """

    warmup_lengths: tuple[int, ...] = (1, 1000)
    warmup_candidates: tuple[int, ...] = (1, 100)
    max_candidates: int = 2000
    probes: int = 1000
    table: Literal["float32", "float16", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        if self.probes < 1 or min((*self.warmup_lengths, *self.warmup_candidates), default=0) < 1:
            raise ConfigError("probes, warmup_lengths and warmup_candidates must be at least 1, and none of them empty")
        if self.max_candidates < max(2, *self.warmup_candidates):
            raise ConfigError(
                f"max_candidates must be at least 2 and the largest of warmup_candidates, not {self.max_candidates}"
            )


@dataclasses.dataclass(frozen=True)
class ClusterConfig:
    """How `twin-tf cluster` compresses histories (TWIN-V2).

    Attributes:
        completion: the cross feature that says what share of an item the user took in, 0 to 1 (`keep_value: true`);
            behaviours of different shares never share a cluster. Null: all behaviours are of one group.
        groups: M, into how many equal bins of `completion` behaviours are divided.
        gamma: the largest size of a cluster.
        exponent: a set V is split into max(2, floor(|V|^exponent)) clusters at a time.
        recent: so many of the latest behaviours before a clustering stay as they are: the short-term block's.
        period_days: from one clustering of a user's history to the next; what came after the last one stays as it is.
        seed: of the first centroids.
    """

    completion: str | None = None
    groups: int = 5
    gamma: int = 20
    exponent: float = 0.3
    recent: int = 50
    period_days: float = 14.0
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("groups", "gamma"):
            if not 1 <= getattr(self, name) <= LONGEST_HISTORY:
                raise ConfigError(f"{name} must lie between 1 and {LONGEST_HISTORY}, not {getattr(self, name)}")
        if not 0 < self.exponent <= LARGEST_EXPONENT:
            raise ConfigError(f"exponent must be above 0 and at most {LARGEST_EXPONENT}, not {self.exponent}")
        if self.recent < 0 or self.seed < 0:
            raise ConfigError(f"recent {self.recent} and seed {self.seed} must not be negative")
        if not 1 / 24 <= self.period_days <= 36_500:
            raise ConfigError(f"period_days must lie between 1/24 (an hour) and 36500, not {self.period_days}")


@dataclasses.dataclass(frozen=True)
class Config:
    """One configuration file; `schema` is None where the file leaves it to the prepared data."""

    schema: FeatureSchema | None = None
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    clusters: ClusterConfig = dataclasses.field(default_factory=ClusterConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    serving: ServingConfig = dataclasses.field(default_factory=ServingConfig)

    def __post_init__(self) -> None:
        if self.training.relevance_learning_rate is not None and not self.model.decoupled_embeddings:
            raise ConfigError(
                "training.relevance_learning_rate is the rate of tables for the relevance alone, and there are none: "
                "set model.decoupled_embeddings, or leave it out"
            )
        if self.training.projections == "cached":
            for key, needed in (("relevance", "split"), ("search", "twin")):
                value = getattr(self.model, key)
                if value != needed:
                    raise ConfigError(
                        f"training.projections: cached needs a search that reads projections, and model.{key}: {value} "
                        "reads none; leave projections live"
                    )

    def to_plain(self, defaults: bool = False) -> dict[str, Any]:
        """The mapping that `config_from_mapping` reads back; with `defaults`, every setting is written out."""
        plain: dict[str, Any] = to_plain(self, defaults)
        return plain

    def save(self, path: str | Path) -> None:
        """Writes the configuration as YAML, every setting written out: a later default must not change what it says."""
        Path(path).write_text(dump_yaml(self.to_plain(defaults=True)), encoding="utf-8")


_SECTIONS = tuple(field.name for field in dataclasses.fields(Config))


def config_from_mapping(data: dict[str, Any]) -> Config:
    """Builds a configuration from a plain mapping; earlier names of settings are taken, with a warning.

    Raises:
        ConfigError: an unknown key (the nearest known one is named) or a wrong value.
    """
    data, renamed = current_names(data)
    warn_of(renamed, stacklevel=2)
    for key in data:
        if key not in _SECTIONS:
            raise ConfigError(f"the configuration has an unknown section {key!r}{nearest(key, _SECTIONS)}")
    return Config(
        schema=schema_from_mapping(data["schema"]) if data.get("schema") is not None else None,
        model=build(ModelConfig, _checked_searches(data.get("model") or {}), "model"),
        clusters=build(ClusterConfig, data.get("clusters") or {}, "clusters"),
        training=build(TrainingConfig, _with_preset(data.get("training") or {}), "training"),
        serving=build(ServingConfig, data.get("serving") or {}, "serving"),
    )


def load_config(path: str | Path | None, overrides: Sequence[str] = ()) -> Config:
    """Reads a configuration and applies overrides; earlier names of settings are taken, with a warning.

    Args:
        path: a YAML file; the name of one shipped in `twin_tf/configs` (without `.yaml`); or None for the defaults.
        overrides: `section.key=value` each, the value read as YAML.

    Raises:
        ConfigError: a file that cannot be read, an unknown key, a wrong value.
    """
    data, in_file = current_names(read_yaml(_resolve(path)) if path is not None else {})
    overrides, in_overrides = current_overrides(overrides)
    warn_of([*in_file, *in_overrides], stacklevel=2)
    for override in overrides:
        name, separator, text = override.partition("=")
        keys = name.split(".")
        if not separator or len(keys) < 2:
            raise ConfigError(f"--set {override!r} must read section.key=value, for example training.epochs=2")
        place = data
        for key in keys[:-1]:
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise ConfigError(f"--set {override!r}: {key!r} is not a section")
        place[keys[-1]] = parse_yaml(text, f"--set {name}: the value")
        if name == "training.preset":  # said after the file was written, so it wins over the file's keys
            place |= _preset(place.pop("preset"))
    return config_from_mapping(data)


def _checked_searches(model: Any) -> Any:
    """The model section; refused with settings for a search that has none."""
    searches = model.get("searches") if isinstance(model, Mapping) else None
    known = {field.name for field in dataclasses.fields(SearchSettings)}
    for name in searches if isinstance(searches, Mapping) else ():
        if name in SEARCHES and name not in known:
            raise ConfigError(f"model.searches.{name}: the search {name} has no settings; leave it out")
    return model


def _with_preset(training: Any) -> Any:
    if not isinstance(training, Mapping) or "preset" not in training:
        return training
    return {**_preset(training["preset"]), **{key: value for key, value in training.items() if key != "preset"}}


def _preset(name: Any) -> Mapping[str, Any]:
    if name not in PRESETS:
        raise ConfigError(f"training.preset {name!r} is unknown{nearest(str(name), PRESETS)}")
    return PRESETS[name]


def _resolve(path: str | Path) -> Path:
    if Path(path).exists() or Path(path).suffix:
        return Path(path)
    shipped = {file.stem: file for file in (Path(__file__).parent / "configs").glob("*.yaml")}
    name = str(path).replace("-", "_")
    if name not in shipped:
        raise ConfigError(f"{path} is neither a file nor a shipped configuration{nearest(name, shipped)}")
    return shipped[name]
