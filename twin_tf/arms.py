"""Several systems on prepared data, each trained and evaluated with several seeds: what every comparison is made of.

What is done is kept in the working directory, so a comparison that was interrupted goes on where it was: a trained run
is not trained again, a killed one is resumed, and an evaluation that was written is read.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from twin_tf.code_version import commit
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

    def kept(self, arm: Arm, prepared: str | Path) -> list[Plain]:
        """What `run` has returned already, of the seeds that are done."""
        runs = [self._run(arm, prepared, seed) for seed in self._seeds]
        return [self._read(run) for run in runs if self._kept(f"{run.name}.json").is_file()]

    def validated(self, arm: Arm, prepared: str | Path) -> Plain:
        """Trains with the first seed alone; metrics of the validation records. The test split is not looked at."""
        found: Plain = self._trained(arm, prepared, self._seeds[0])["kept"]["valid"]
        return found

    def _one(self, arm: Arm, prepared: str | Path, seed: int) -> Plain:
        run = self._run(arm, prepared, seed)
        kept = self._kept(f"{run.name}.json")
        if kept.is_file():
            return self._read(run)
        trained = self._trained(arm, prepared, seed)
        where = ("--prepared", str(prepared), "--run", str(run))
        evaluated = self._steps.run(f"evaluate {self._name(arm, seed)}", "evaluate", *where)
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
            "train_peak_rss_mb": trained["peak_rss_mb"],
            "trained_at_once": trained["at_once"],
            "commit": commit(),
        }
        write_whole(kept, result)
        return result

    def _read(self, run: Path) -> Plain:
        return {**read_plain(self._kept(f"{run.name}.json")), "run": str(run)}  # the working directory may have moved

    def _trained(self, arm: Arm, prepared: str | Path, seed: int) -> Plain:
        """The report of the trained run, with `peak_rss_mb` (None if the process that measured it was killed)."""
        run = self._run(arm, prepared, seed)
        kept = self._kept(f"{run.name}.train.json")
        if kept.is_file():
            return read_plain(kept)
        if (run / "run.json").is_file() and read_plain(run / "run.json").get("weights_version"):
            trained = {**read_plain(run / "report.json"), "peak_rss_mb": None, "at_once": None}
        else:
            options = [part for setting in self._settings(arm, seed) for part in ("--set", setting)]
            where = ("--prepared", str(prepared), "--run", str(run))
            name = f"train {self._name(arm, seed)}"
            trained = self._steps.run(name, "train", "--config", self._config, *options, *where)
        write_whole(kept, trained)
        return trained

    def _settings(self, arm: Arm, seed: int) -> list[str]:
        return [*arm.overrides, f"training.seed={seed}"]

    def _name(self, arm: Arm, seed: int) -> str:
        return arm.key if len(self._seeds) == 1 else f"{arm.key}, seed {seed}"

    def _run(self, arm: Arm, prepared: str | Path, seed: int) -> Path:
        """The run's directory: of the same settings on the same data only."""
        data = hashlib.sha256((Path(prepared) / MANIFEST).read_bytes()).hexdigest()
        settings = [setting.replace(str(self._workdir), "") for setting in self._settings(arm, seed)]
        known = json.dumps([self._config_text(), settings, data]).encode()
        return self._workdir / "runs" / f"{arm.key}-seed{seed}-{hashlib.sha256(known).hexdigest()[:10]}"

    def _kept(self, name: str) -> Path:
        return self._workdir / "results" / name

    def _config_text(self) -> str:
        path = Path(self._config)
        return path.read_text(encoding="utf-8") if path.is_file() else self._config


def write_whole(path: Path, content: Plain) -> None:
    """Writes JSON under its name only when it is complete; makes the directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def read_plain(path: Path) -> Plain:
    """Reads JSON."""
    found: Plain = json.loads(path.read_text(encoding="utf-8"))
    return found
