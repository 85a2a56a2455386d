"""Does an evaluation against another run show the model to be worse? The trainer's own judgement, on a whole split.

The probes of a model are a few hundred requests. `twin-tf evaluate --against` scores a whole split with both runs and
says, by a bootstrap over users, which differences are more than noise.
"""

from pathlib import Path
from typing import Any

from export.contract.file_manifest import EXPORT, read_description
from export.gate.check import Check, first_faults
from export.gate.provenance import other_versions
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.files import read_json

BETTER = {"auc": 1, "gauc": 1, "logloss": -1}
"""Metrics that are looked at, and the sign of a difference that is an improvement."""

_ASK = "run `twin-tf evaluate --against` on the run of this model"


def check_evaluation(directory: Path, evaluation: Path, base_path: Path | None = None) -> Check:
    """Whether no metric is worse by more than noise.

    Args:
        directory: the model directory.
        evaluation: `evaluation-<split>.json` of `twin-tf evaluate --against`, of the run of this model.
        base_path: of the published versions, the newest of which must be the other run's.

    Raises:
        ConfigError: it is no JSON.
        OSError: it cannot be read.
    """
    found, mine = read_json(evaluation), read_description(directory)["weights_version"]
    try:
        less, own, other = found["against"]["less"], found["weights_version"], found["against"]["weights_version"]
        gaps = {name: (float(less[name]["difference"]), less[name]["beyond_noise"]) for name in BETTER if less[name]}
    except (KeyError, TypeError, ValueError):
        raise ConfigError(f"{evaluation} compares with no other run; {_ASK}") from None
    figures = {f"{name}_difference": gap for name, (gap, _) in gaps.items()}
    faults = []
    if own != mine:
        faults.append(f"{evaluation} is of weights {own}, the model's are {mine}; {_ASK}")
    published = None if base_path is None else _published(directory, base_path)
    if published is not None and other != published:
        faults.append(
            f"it compares with weights {other}, those published last are {published}; evaluate --against their run"
        )
    if not gaps:
        faults.append(f"{evaluation} has no difference to judge by: targets of one class alone")
    for name, (gap, beyond_noise) in gaps.items():
        if beyond_noise and gap * BETTER[name] < 0:
            faults.append(f"{name} is worse than that of {found['against']['run']} by {abs(gap):.4f}, more than noise")
    shown = ", ".join(f"{name} {gap:+.4f}" for name, (gap, _) in gaps.items())
    return first_faults("evaluation", faults, f"not worse by more than noise ({shown})", figures)


def _published(directory: Path, base_path: Path) -> Any:
    """The weights of the version published last; None if there is none, or if earlier code exported it."""
    for number in other_versions(directory, base_path)[:1]:
        path = base_path / str(number)
        if (path / EXPORT).is_file():
            return read_description(path)["weights_version"]
    return None
