"""Several systems on prepared data, each trained and evaluated with several seeds: what every comparison is made of.

What is done is kept in the working directory, so a comparison that was interrupted goes on where it was: a trained run
is not trained again, a killed one is resumed, and an evaluation that was written is read.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from twin_tf.command_steps import Plain, Steps
from twin_tf.records import MANIFEST


class Arm(NamedTuple):
    """One system.

    Attributes:
        key: of its figures and directories.
        label: in tables and figures.
        overrides: `section.key=value`, what differs from the configuration.
    """

    key: str
    label: str
    overrides: tuple[str, ...] = ()


class Arms:
    """Trains and evaluates.

    Args:
        workdir: where runs and results are kept.
        config: the configuration that all systems share: a file, or a shipped name.
        seeds: of the random starts and of shuffling.
        steps: runs the commands.
    """

    def __init__(self, workdir: Path, config: str, seeds: Sequence[int], steps: Steps) -> None:
        self._workdir = workdir
        self._config = config
        self._seeds = tuple(seeds)
        self._steps = steps

    def run(self, arm: Arm, prepared: str | Path) -> list[Plain]:
        """One result a seed: metrics of the test split, `by_history_length`, `run`, `seed`, and what training took."""
        return [self._one(arm, prepared, seed) for seed in self._seeds]

    def _one(self, arm: Arm, prepared: str | Path, seed: int) -> Plain:
        settings = [*arm.overrides, f"training.seed={seed}"]
        data = hashlib.sha256((Path(prepared) / MANIFEST).read_bytes()).hexdigest()
        known = hashlib.sha256(json.dumps([self._config_text(), settings, data]).encode()).hexdigest()[:10]
        run = self._workdir / "runs" / f"{arm.key}-seed{seed}-{known}"
        kept = self._workdir / "results" / f"{run.name}.json"
        if kept.is_file():
            found: Plain = json.loads(kept.read_text(encoding="utf-8"))
            return found
        name = arm.key if len(self._seeds) == 1 else f"{arm.key}, seed {seed}"
        options = [part for setting in settings for part in ("--set", setting)]
        where = ("--prepared", str(prepared), "--run", str(run))
        peak = None
        if (run / "run.json").is_file() and json.loads((run / "run.json").read_text())["weights_version"]:
            trained = json.loads((run / "report.json").read_text(encoding="utf-8"))
        else:
            trained = self._steps.run(f"train {name}", "train", "--config", self._config, *options, *where)
            peak = self._steps.taken[-1]["peak_rss_mb"]
        evaluated = self._steps.run(f"evaluate {name}", "evaluate", *where)
        result = {
            **evaluated["metrics"],
            "key": arm.key,
            "label": arm.label,
            "seed": seed,
            "run": str(run),
            "prepared": str(prepared),
            "overrides": list(arm.overrides),
            "by_history_length": evaluated["by_history_length"],
            **{name: trained[name] for name in ("train_seconds", "examples_per_s", "epochs", "valid")},
            "train_peak_rss_mb": peak,
        }
        kept.parent.mkdir(parents=True, exist_ok=True)
        temporary = kept.with_suffix(".tmp")
        temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        temporary.replace(kept)
        return result

    def _config_text(self) -> str:
        path = Path(self._config)
        return path.read_text(encoding="utf-8") if path.is_file() else self._config
