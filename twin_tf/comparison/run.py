"""Runs a comparison: train and evaluate every system with every seed, then look at consistency and cost.

Killed, it goes on where it was when the same command is run again; the report is written anew after every result.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twin_tf.arms import Arm, Arms, write_whole
from twin_tf.command_steps import Plain, Steps
from twin_tf.comparison.rates import Rates, untried
from twin_tf.comparison.report import write_comparison
from twin_tf.comparison.systems import System
from twin_tf.config import Config
from twin_tf.records import Manifest
from twin_tf.strict_yaml import ConfigError

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # for every step; what matters comes as an exception

AGES = (0, 25, 50, 100, 200, 400)
"""Training steps that TWIN's projection table is old."""

LENGTH, CANDIDATES = 10_000, 100
"""Of the requests that are timed."""

MATCHES = "matches.parquet"
"""In the truth of simulated logs."""

COUNTED = ((100, "counting, latest 100"), (0, "counting, whole history"))


class Comparison:
    """One comparison in its working directory.

    Args:
        workdir: a new directory, or that of the same comparison.
        config: settings that all systems share.
        prepared: prepared data.
        systems: what is compared.
        seeds: of every system that is no ablation; ablations have the first.
        rates: factors of the learning rates to try with each system, or what came of such trials.
        truth: the directory `truth` of simulated logs, to see which of the planted behaviours a search finds.
        records: of the test split, whose finalists are compared with the true ones.

    Raises:
        ConfigError: there is no truth in `truth`.
    """

    def __init__(
        self,
        workdir: Path,
        config: Config,
        prepared: str,
        systems: Sequence[System],
        seeds: Sequence[int],
        rates: Rates,
        truth: str | None = None,
        records: int = 40,
    ) -> None:
        if truth is not None and not (Path(truth) / MATCHES).is_file():
            raise ConfigError(f"{truth}: no {MATCHES}; this is the directory truth that `twin-tf simulate` writes")
        self._workdir = workdir.absolute()
        self._workdir.mkdir(parents=True, exist_ok=True)
        self._config = config
        self._prepared = str(Path(prepared).absolute())
        self._manifest = Manifest.load(prepared)
        self._digest = hashlib.sha256(self._manifest.to_json().encode()).hexdigest()
        self._systems = list(systems)
        self._seeds = tuple(seeds)
        self._rates = rates
        self._truth = None if truth is None else str(Path(truth).absolute())
        self._records = records
        self._steps = Steps()
        self._started = time.monotonic()

    def run(self) -> Plain:
        """Does what is left to do; returns the content of `report.json`.

        Raises:
            ConfigError: a step failed; its own words are on stderr.
        """
        path = self._workdir / "config.yaml"
        self._config.save(path)
        embeddings = self._embeddings()
        self._tune(path, embeddings)
        results: dict[str, list[Plain]] = {system.key: [] for system in self._systems}
        extras: dict[str, Plain] = {}
        counted = self._counted()
        for seed in self._seeds:
            arms = Arms(self._workdir, str(path), (seed,), self._steps)
            for system in self._systems:
                if system.ablation and seed != self._seeds[0]:
                    continue
                results[system.key] += arms.run(self._arm(system, embeddings, self._rates.of(system)), self._prepared)
                self._write(results, counted, extras)
        for system in self._systems:
            extras[system.key] = self._looked_at(system, results[system.key][0])
            self._write(results, counted, extras)
        return self._write(results, counted, extras)

    def _arm(self, system: System, embeddings: str, factor: float) -> Arm:
        return system.arm(embeddings, self._config.training, factor)

    def _tune(self, path: Path, embeddings: str) -> None:
        """Tries the rates that were not tried yet, with the first seed."""
        arms = Arms(self._workdir, str(path), self._seeds[:1], self._steps)
        for system, factor in untried(self._rates, self._systems):
            valid = arms.validated(self._arm(system, embeddings, factor), self._prepared)
            if not valid:
                raise ConfigError("to choose rates, training.validation_records must be more than 0")
            tried = {**self._rates.tried, system.key: {**self._rates.tried.get(system.key, {}), factor: valid["gauc"]}}
            self._rates = Rates(self._rates.factors, tried)
        if self._rates.tried:
            about = {"data": self._manifest.schema.name, "seed": self._seeds[0], "manifest_sha256": self._digest}
            write_whole(self._workdir / "rates.json", {**about, **self._rates.to_plain()})

    def _embeddings(self) -> str:
        """The directory of frozen item embeddings, made if any system needs them."""
        output = self._workdir / "item-embeddings"
        if any(system.needs_embeddings for system in self._systems) and not output.exists():
            where = ("--prepared", self._prepared, "--output", str(output))
            self._steps.run("item embeddings", "item-embeddings", *where)
        return str(output)

    def _counted(self) -> dict[str, Plain]:
        """The counting baseline, over the latest 100 behaviours and over all; none without a category."""
        category = self._config.model.category
        if category is None:
            return {}
        kept = self._workdir / "results" / f"counting-{category}-{self._digest[:10]}.json"
        if not kept.is_file():
            from twin_tf.counting import evaluate_counting

            found = {}
            for window, label in COUNTED:
                longest = window or self._manifest.schema.history.max_length
                metrics = evaluate_counting(self._manifest, "test", category, longest)
                found[label] = metrics.to_plain()
            write_whole(kept, found)
        return _read(kept)

    def _looked_at(self, system: System, result: Plain) -> Plain:
        """Consistency and cost of a system's first run."""
        name = Path(result["run"]).name
        kept = self._workdir / "extras" / f"{name}.json"
        if not kept.is_file():
            found: Plain = {"latency": self._latency(result["run"])}
            if not system.ablation:
                ages = ",".join(str(age) for age in AGES) if system.key == "twin" else ""
                command = ("twin_tf.comparison.consistency", "--run", result["run"], "--prepared", self._prepared)
                found |= self._module(
                    f"consistency {system.key}", *command, "--records", str(self._records), "--ages", ages
                )
            write_whole(kept, found)
        return {**_read(kept), "planted": self._planted(result["run"])}

    def _planted(self, run: str) -> Plain | None:
        if self._truth is None:
            return None
        kept = self._workdir / "extras" / f"{Path(run).name}.planted.json"
        if not kept.is_file():
            asked = ("--run", run, "--prepared", self._prepared, "--truth", self._truth)
            write_whole(kept, {"shares": self._module("", "twin_tf.comparison.planted", *asked)})
        shares: Plain | None = _read(kept)["shares"]
        return shares

    def _latency(self, run: str) -> Plain:
        model = self._workdir / "latency-model"
        shutil.rmtree(model, ignore_errors=True)
        sizes = ("--length", str(LENGTH))
        self._module("", "twin_tf.comparison.latency", "export", "--run", run, "--output", str(model), *sizes)
        asked = ("--model", str(model), "--candidates", str(CANDIDATES), *sizes)
        found = self._module(f"latency {Path(run).name}", "twin_tf.comparison.latency", "time", *asked)
        shutil.rmtree(model)
        return found

    def _module(self, name: str, module: str, *arguments: str) -> Plain:
        """Runs a module in a process of its own; returns what it prints."""
        started = time.monotonic()
        print(f"$ python -m {module} {' '.join(arguments)}", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", module, *arguments]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        if name:
            self._steps.add(name, time.monotonic() - started, 0.0)
        found: Plain = json.loads(done.stdout) if done.stdout.strip() else {}
        return found

    def _write(self, results: dict[str, list[Plain]], counted: dict[str, Plain], extras: dict[str, Plain]) -> Plain:
        targets = self._manifest.counts.targets
        report: dict[str, Any] = {
            "data": self._manifest.schema.name,
            "targets": dict(targets),
            "manifest_sha256": self._digest,
            "seeds": list(self._seeds),
            "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.system()},
            "seconds": time.monotonic() - self._started,
            "labels": {system.key: system.label for system in self._systems},
            "ablations": [system.key for system in self._systems if system.ablation],
            "results": {key: found for key, found in results.items() if found},
            "counting": counted,
            "extras": extras,
            "history_length": self._config.model.history_length,
            "epochs": self._config.training.epochs,
            "rates": self._rates.to_plain(),
            "factors": {system.key: self._rates.of(system) for system in self._systems},
        }
        write_comparison(self._workdir, report)
        return report


def _read(path: Path) -> Plain:
    found: Plain = json.loads(path.read_text(encoding="utf-8"))
    return found
