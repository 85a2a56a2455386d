"""The settings that a run or an exported model was made with, read as its own code meant them.

Both write every setting out, so a new default of today's code never reaches them. A setting that they lack is younger
than they are, or stood at its default when defaults were left out: `EARLIER_DEFAULTS` says what that meant. Settings
that they hold under an earlier name are read under the new one (`twin_tf.renamed_settings`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twin_tf.config import Config, ModelConfig, config_from_mapping
from twin_tf.core.dataclass_yaml import ConfigError, build
from twin_tf.core.yaml_text import read_yaml
from twin_tf.renamed_settings import current_names, put

CONFIG = "config.yaml"
"""In a run directory."""

EARLIER_DEFAULTS: Mapping[str, Any] = {
    "model.embedding_scale": 2.0,
    "model.equality_bias": False,
    "model.graded_counts": [],
    "model.null_key": False,
    "model.relevance_init_scale": 1.0,
    "training.allow_one_class": False,
    "training.id_dropout": 0.0,
    "training.redraw_tables": False,
    "training.relevance_learning_rate": None,
    "training.shuffle_memory_mb": 512,
    "training.table_gradient": "mean",
    "serving.max_candidates": 2000,
}
"""`section.key` -> what its absence from recorded settings means, where that is not the default of today.

Whoever adds a setting or changes a default enters here what runs until then were trained with; a test asks for it.
"""


def load_run_config(run: str | Path) -> Config:
    """The configuration that a run was trained with.

    Raises:
        ConfigError: the run has none, or one of settings that this code does not know.
    """
    plain = _recorded(run)
    for name, value in _absent(plain).items():
        put(plain, name, value)
    return config_from_mapping(plain)


def earlier_forms(run: str | Path) -> dict[str, Any]:
    """`section.key` -> value of the settings that the run does not record and that meant something else in its time."""
    return _absent(_recorded(run))


def recorded_model(plain: Mapping[str, Any], where: str) -> ModelConfig:
    """The model settings that an exported model records.

    Args:
        plain: what `to_plain` made of them, with or without defaults.
        where: named in messages.

    Raises:
        ConfigError: settings that this code does not know.
    """
    found, _ = current_names({"model": plain})
    for name, value in _absent(found).items():
        if name.startswith("model."):
            put(found, name, value)
    return build(ModelConfig, found["model"], where)


def _recorded(run: str | Path) -> dict[str, Any]:
    """What a run recorded, under today's names."""
    plain, _ = current_names(read_yaml(Path(run) / CONFIG))
    for section, recorded in plain.items():
        if recorded is not None and not isinstance(recorded, Mapping):
            raise ConfigError(f"section {section!r} of {CONFIG} must be a mapping, not {recorded!r}")
    return plain


def _absent(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of `EARLIER_DEFAULTS` that recorded settings lack."""
    return {name: value for name, value in EARLIER_DEFAULTS.items() if not _holds(plain, name.split("."))}


def _holds(plain: Any, way: Sequence[str]) -> bool:
    if not way:
        return True
    return isinstance(plain, Mapping) and way[0] in plain and _holds(plain[way[0]], way[1:])
