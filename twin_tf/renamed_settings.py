"""Settings and values that have new names.

A configuration may hold the earlier names: `load_config` and `config_from_mapping` take them with one warning. Runs,
exported models and comparisons that recorded them are read without one (`twin_tf.runs.recorded_settings`).

Example:
    >>> current_names({"model": {"retrieved": 50}})
    ({'model': {'top_k': 50}}, ['model.retrieved is now model.top_k'])
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.yaml_text import parse_yaml

SETTINGS: Mapping[str, tuple[str, ...]] = {
    "model.category": ("model.searches.sim_hard.category",),
    "model.cluster_size": ("model.cluster_size_bias",),
    "model.evidence": ("model.relevance_statistics",),
    "model.hash_bits": ("model.searches.eta.bits", "model.searches.sdim.bits"),
    "model.hash_round_bits": ("model.searches.sdim.round_bits",),
    "model.item_clusters": ("model.searches.sim_cluster.clusters",),
    "model.memory_slots": ("model.searches.mimn.slots",),
    "model.projection_start": ("model.projection_init",),
    "model.relevance_scale": ("model.relevance_init_scale",),
    "model.retrieved": ("model.top_k",),
}
"""Earlier name of a setting -> its new one, or several if it was divided."""

VALUES: Mapping[str, Mapping[str, str]] = {
    "model.projection_init": {"equal": "tied", "unrelated": "independent"},
    "model.search": {
        "average": "avg_pooling",
        "bm25": "ubr4ctr",
        "category": "sim_hard",
        "consistent": "twin",
        "hash_rounds": "sdim",
        "inner_product": "sim_soft",
        "item_clusters": "sim_cluster",
        "learned_inner_product": "sim_soft_learned",
        "memory": "mimn",
        "recent": "din",
        "simhash": "eta",
    },
}
"""Setting -> earlier name of a value -> its new one."""


class RenamedSettingWarning(FutureWarning):
    """A configuration uses an earlier name."""


def current_names(plain: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A configuration under the new names, and for each earlier one what it is called now.

    Args:
        plain: sections as YAML holds them; it is left as it is.

    Raises:
        ConfigError: a setting is given under both names.
    """
    found = {name: dict(part) if isinstance(part, Mapping) else part for name, part in plain.items()}
    renamed = []
    for old, new in SETTINGS.items():
        section, key = old.split(".")
        if not isinstance(found.get(section), dict) or key not in found[section]:
            continue
        value = found[section].pop(key)
        for name in new:
            put(found, name, value, old)
        renamed.append(f"{old} is now {' and '.join(new)}")
    for name, values in VALUES.items():
        section, key = name.split(".")
        part = found.get(section)
        if isinstance(part, dict) and isinstance(part.get(key), str) and part[key] in values:
            renamed.append(f"{name}: {part[key]} is now {values[part[key]]}")
            part[key] = values[part[key]]
    return found, renamed


def current_overrides(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """`section.key=value` each under the new names, and for each earlier one what it is called now."""
    found, renamed = [], []
    for override in overrides:
        name, separator, text = override.partition("=")
        if name in SETTINGS:
            renamed.append(f"{name} is now {' and '.join(SETTINGS[name])}")
        for new in SETTINGS.get(name, (name,)):
            value = _scalar(text)
            if value in VALUES.get(new, {}):
                renamed.append(f"{new}: {value} is now {VALUES[new][value]}")
                found.append(f"{new}={VALUES[new][value]}")
            else:
                found.append(f"{new}{separator}{text}")
    return found, renamed


def warn_of(renamed: Sequence[str], stacklevel: int) -> None:
    """One warning that names them all, if there are any."""
    if renamed:
        said = "; ".join(dict.fromkeys(renamed))
        warnings.warn(f"settings have new names: {said}", RenamedSettingWarning, stacklevel=stacklevel + 1)


def put(plain: dict[str, Any], name: str, value: Any, old: str | None = None) -> None:
    """Sets `section.key` or `section.key.key...` in a configuration; mappings on the way are copied or made.

    Args:
        plain: the configuration, whose sections are its own.
        name: of the setting.
        value: of the setting.
        old: an earlier name, for which a value under the new one is a mistake.

    Raises:
        ConfigError: `old` is given and the setting has a value, or something on the way is no mapping.
    """
    *way, last = name.split(".")
    place = plain
    for step in way:
        inner = place.get(step)
        if inner is not None and not isinstance(inner, Mapping):
            raise ConfigError(f"{name}: {step!r} is not a section")
        place[step] = dict(inner or {})
        place = place[step]
    if old is not None and last in place:
        raise ConfigError(f"{old} is now {name}, and the configuration has both; leave {old} out")
    place[last] = value


def _scalar(text: str) -> str:
    """The text that a value stands for in YAML; empty for any other value."""
    try:
        value = parse_yaml(text, "the value")
    except ConfigError:
        return ""
    return value if isinstance(value, str) else ""
