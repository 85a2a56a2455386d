"""The settings that a run or an exported model was made with, read as its own code meant them.

Both write every setting out, so a new default of today's code never reaches them. A setting that they lack is younger
than they are, or stood at its default when defaults were left out: `EARLIER_DEFAULTS` says what that meant.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twin_tf.config import Config, ModelConfig, config_from_mapping
from twin_tf.core.dataclass_yaml import ConfigError, build, read_yaml

CONFIG = "config.yaml"
"""In a run directory."""

EARLIER_DEFAULTS: Mapping[str, Any] = {
    "model.embedding_scale": 2.0,
    "model.relevance_scale": 1.0,
    "training.id_dropout": 0.0,
    "training.redraw_tables": False,
    "training.table_gradient": "mean",
}
"""`section.key` -> what its absence from recorded settings means, where that is not the default of today.

Whoever adds a setting or changes a default enters here what runs until then were trained with; a test asks for it.
"""


def load_run_config(run: str | Path) -> Config:
    """The configuration that a run was trained with.

    Raises:
        ConfigError: the run has none, or one of settings that this code does not know.
    """
    path = Path(run) / CONFIG
    plain = read_yaml(path)
    for name, value in earlier_forms(run).items():
        section, _, key = name.partition(".")
        plain[section] = {**(plain.get(section) or {}), key: value}
    return config_from_mapping(plain)


def earlier_forms(run: str | Path) -> dict[str, Any]:
    """`section.key` -> value of the settings that the run does not record and that meant something else in its time."""
    plain = read_yaml(Path(run) / CONFIG)
    return {name: value for name, value in EARLIER_DEFAULTS.items() if not _recorded(plain, name)}


def recorded_model(plain: Mapping[str, Any], where: str) -> ModelConfig:
    """The model settings that an exported model records.

    Args:
        plain: what `to_plain` made of them, with or without defaults.
        where: named in messages.

    Raises:
        ConfigError: settings that this code does not know.
    """
    earlier = {name.partition(".")[2]: value for name, value in EARLIER_DEFAULTS.items() if name.startswith("model.")}
    return build(ModelConfig, {**earlier, **plain}, where)


def _recorded(plain: Mapping[str, Any], name: str) -> bool:
    section, _, key = name.partition(".")
    recorded = plain.get(section) or {}
    if not isinstance(recorded, Mapping):
        raise ConfigError(f"section {section!r} of {CONFIG} must be a mapping, not {recorded!r}")
    return key in recorded
