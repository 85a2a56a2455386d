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
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from twin_tf.arms import Arm, Arms, read_plain, write_whole
from twin_tf.command_steps import Plain, Steps
from twin_tf.comparison.latency import SIZES
from twin_tf.comparison.rates import Rates, base_rates, untried
from twin_tf.comparison.report import write_comparison
from twin_tf.comparison.systems import System
from twin_tf.config import Config, load_config
from twin_tf.records import Manifest
from twin_tf.search import make_search
from twin_tf.strict_yaml import ConfigError, nearest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # for every step; what matters comes as an exception

AGES = (0, 25, 50, 100, 200, 400)
"""Training steps that TWIN's projection table is old."""

LENGTH, CANDIDATES = 10_000, 100
"""Of the requests that are timed."""

Work = TypeVar("Work")
Done = TypeVar("Done")

MATCHES = "matches.parquet"
"""In the truth of simulated logs."""


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
        jobs: how many things may run at once where nothing is timed.
        records: of the test split, whose finalists are compared with the true ones.

    Raises:
        ConfigError: the data have no truth, or no category of that name, or no targets to choose rates by; the rates
            were tried with other ones; or the settings that all share are those of an ablation.
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
        jobs: int = 1,
        records: int = 40,
    ) -> None:
        if truth is not None and not (Path(truth) / MATCHES).is_file():
            raise ConfigError(f"{truth}: no {MATCHES}; this is the directory truth that `twin-tf simulate` writes")
        self._config = config
        self._prepared = str(Path(prepared).absolute())
        self._manifest = Manifest.load(prepared)
        self._digest = hashlib.sha256(self._manifest.to_json().encode()).hexdigest()
        self._systems = list(systems)
        self._seeds = tuple(seeds)
        self._rates = rates
        self._truth = None if truth is None else str(Path(truth).absolute())
        self._records = records
        self._jobs = jobs
        self._steps = Steps(at_once=jobs)
        self._started = time.monotonic()
        self._check_data()
        self._workdir = workdir.absolute()
        self._workdir.mkdir(parents=True, exist_ok=True)

    def _check_data(self) -> None:
        model, schema, rates = self._config.model, self._manifest.schema, self._rates
        if not model.bias or model.relevance != "split" or model.consistency != "shared":
            raise ConfigError(
                "a comparison wants TWIN whole: leave model.bias, relevance and consistency at their defaults; "
                "TWIN without each of them is a system of its own"
            )
        if model.category is not None and model.category not in schema.inherent_slices:
            hint = nearest(model.category, schema.inherent_slices)
            raise ConfigError(f"model.category {model.category!r} is no inherent feature of the data{hint}")
        if untried(rates, self._systems) and not self._manifest.counts.targets.get("valid"):
            raise ConfigError("to choose rates the data need a valid split with targets, and these have none")
        if rates.origin is not None and rates.origin["base"] != base_rates(self._config.training):
            raise ConfigError(
                f"--rates were tried as factors of {rates.origin['base']}, but the configuration has "
                f"{base_rates(self._config.training)}; tune again with --rates 0.5,1,2"
            )
        if self._truth is not None and schema.history.clustered:
            raise ConfigError("--truth knows single behaviours, but these histories are clustered; leave it out")

    def run(self) -> Plain:
        """Does what is left to do; returns the content of `report.json`.

        Raises:
            ConfigError: a step failed; its own words are on stderr.
        """
        path = self._workdir / "config.yaml"
        self._config.save(path)
        for system in self._systems:
            self._check(system, path)
        embeddings = self._embeddings()
        self._tune(path, embeddings)
        results: dict[str, list[Plain]] = {system.key: [] for system in self._systems}
        extras: dict[str, Plain] = {}
        counted = self._counted(path)

        def trained(system: System, seed: int) -> list[Plain]:
            arms = Arms(self._workdir, str(path), (seed,), self._steps)
            return arms.run(self._arm(system, embeddings, self._rates.of(system)), self._prepared)

        mains = [system for system in self._systems if not system.ablation]
        wanted = [(system, self._seeds[0]) for system in self._systems]
        wanted += [(system, seed) for seed in self._seeds[1:] for system in mains]
        for (system, _), found in self._at_once(lambda one: trained(*one), wanted):
            if found[0]["gauc"] is None:
                raise ConfigError("nothing to compare: no user of the test split has targets of both labels")
            results[system.key] += found
            self._write(results, counted, extras)
        searched = [extra for _, extra in self._at_once(lambda one: self._searched(one, results), self._systems)]
        first = [results[system.key][0]["run"] for system in self._systems]
        served = [model for _, model in self._at_once(self._served, first)]
        for system, extra, run, model in zip(self._systems, searched, first, served, strict=True):
            extras[system.key] = {**extra, "latency": self._latency(run, model)}  # timed, so one at a time
            self._write(results, counted, extras)
        return self._write(results, counted, extras)

    def _at_once(self, work: Callable[[Work], Done], wanted: Sequence[Work]) -> Iterator[tuple[Work, Done]]:
        """What is wanted with what came of it, in order, `jobs` at a time; after a failure no more begins."""
        if self._jobs == 1:
            yield from ((one, work(one)) for one in wanted)
            return
        over = threading.Event()

        def watched(one: Work) -> Done:
            if over.is_set():
                raise ConfigError("not begun: another step had failed")
            try:
                return work(one)
            except BaseException:
                over.set()
                raise

        pool = ThreadPoolExecutor(self._jobs)
        try:
            yield from zip(wanted, pool.map(watched, wanted), strict=True)
        finally:
            over.set()
            pool.shutdown(cancel_futures=True)

    def _check(self, system: System, path: Path) -> None:
        """Whether the settings suit the system; asked before the first one is trained."""
        config = load_config(path, self._arm(system, "", 1.0).overrides)
        try:
            make_search(config.model, self._manifest.schema, 1, 1)
        except ConfigError as error:
            raise ConfigError(f"{system.key}: {error}; or leave it out of --systems") from error

    def _arm(self, system: System, embeddings: str, factor: float) -> Arm:
        return system.arm(embeddings, self._config.training, factor)

    def _tune(self, path: Path, embeddings: str) -> None:
        """Tries the rates that were not tried yet, with the first seed."""
        arms = Arms(self._workdir, str(path), self._seeds[:1], self._steps)

        def validated(one: tuple[System, float]) -> Plain:
            return arms.validated(self._arm(one[0], embeddings, one[1]), self._prepared)

        for (system, factor), valid in self._at_once(validated, untried(self._rates, self._systems)):
            if not valid or valid["gauc"] is None:
                raise ConfigError(
                    "rates cannot be chosen: no user of the validation records has targets of both labels"
                )
            tried = {**self._rates.tried, system.key: {**self._rates.tried.get(system.key, {}), factor: valid["gauc"]}}
            self._rates = self._rates._replace(tried=tried)
        if self._rates.tried and self._rates.origin is None:
            about = {"data": self._manifest.schema.name, "manifest_sha256": self._digest, "seed": self._seeds[0]}
            about["base"] = base_rates(self._config.training)
            write_whole(self._workdir / "rates.json", {**self._rates.to_plain(), **about})

    def _embeddings(self) -> str:
        """The directory of frozen item embeddings: the configured one, or made of these data if any system needs it."""
        if self._config.training.item_embeddings:
            return self._config.training.item_embeddings
        output = self._workdir / f"item-embeddings-{self._digest[:10]}"
        if any(system.needs_embeddings for system in self._systems) and not output.exists():
            where = ("--prepared", self._prepared, "--output", str(output))
            self._steps.run("item embeddings", "item-embeddings", *where)
        return str(output)

    def _counted(self, path: Path) -> dict[str, Plain]:
        """The counting baseline by every category that any system goes by."""
        configs = [load_config(path, self._arm(system, "", 1.0).overrides) for system in self._systems]
        categories = (self._config.model.category, *(config.model.category for config in configs))
        counted: dict[str, Plain] = {}
        known = self._manifest.schema.inherent_slices
        for category in dict.fromkeys(name for name in categories if name is not None and name in known):
            kept = self._workdir / "results" / f"counting-by-{category}-{self._digest[:10]}.json"
            if not kept.is_file():
                from twin_tf.counting import counting_baselines

                found = counting_baselines(self._manifest, category)
                write_whole(kept, {label: metrics.to_plain() for label, metrics in found.values()})
            counted |= read_plain(kept)
        return counted

    def _searched(self, system: System, results: Mapping[str, Sequence[Plain]]) -> Plain:
        """What the search of a system's first run finds."""
        run = results[system.key][0]["run"]
        found = {"planted": self._planted(run)}
        if system.ablation and system.key != "twin_auxiliary":
            return found
        kept = self._kept(run, "consistency")
        if not kept.is_file():
            aged = system.key == "twin" and self._manifest.counts.targets.get("valid")
            ages = ",".join(str(age) for age in AGES) if aged else ""
            command = ("twin_tf.comparison.consistency", "--run", run, "--prepared", self._prepared)
            with self._steps.share() as give:
                write_whole(kept, self._module(*command, "--records", str(self._records), "--ages", ages, give=give))
        return {**found, **read_plain(kept)}

    def _kept(self, run: str, what: str) -> Path:
        return self._workdir / "extras" / f"{Path(run).name}.{what}.json"

    def _planted(self, run: str) -> Plain | None:
        if self._truth is None:
            return None
        truth = hashlib.sha256((Path(self._truth) / MATCHES).read_bytes()).hexdigest()
        kept = self._kept(run, f"planted-{truth[:10]}")
        if not kept.is_file():
            asked = ("--run", run, "--prepared", self._prepared, "--truth", self._truth)
            with self._steps.share() as give:
                write_whole(kept, {"shares": self._module("twin_tf.comparison.planted", *asked, give=give)})
        shares: Plain | None = read_plain(kept)["shares"]
        return shares

    def _served(self, run: str) -> Path:
        """The run as a served model, if its latency is still to be measured."""
        model = self._workdir / "served" / Path(run).name
        if not self._kept(run, "latency").is_file() and not (model / SIZES).is_file():  # it is written last
            shutil.rmtree(model, ignore_errors=True)
            asked = ("--run", run, "--output", str(model), "--length", str(LENGTH))
            with self._steps.share() as give:
                self._module("twin_tf.comparison.latency", "export", *asked, give=give)
        return model

    def _latency(self, run: str, model: Path) -> Plain:
        kept = self._kept(run, "latency")
        if not kept.is_file():
            asked = ("--model", str(model), "--candidates", str(CANDIDATES), "--length", str(LENGTH))
            write_whole(kept, self._module("twin_tf.comparison.latency", "time", *asked))
        shutil.rmtree(model, ignore_errors=True)
        return read_plain(kept)

    def _module(self, module: str, *arguments: str, give: Callable[[int], None] = lambda pid: None) -> Plain:
        """Runs a module in a process of its own, `give` may give it fewer processors; returns what it prints."""
        print(f"$ python -m {module} {' '.join(arguments)}", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", module, *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            give(process.pid)
            printed, _ = process.communicate()
        if process.returncode:
            raise ConfigError(f"{module} failed with exit code {process.returncode}; its message is above")
        found: Plain = json.loads(printed) if printed.strip() else {}
        return found

    def _write(self, results: dict[str, list[Plain]], counted: dict[str, Plain], extras: dict[str, Plain]) -> Plain:
        targets = self._manifest.counts.targets
        report: dict[str, Any] = {
            "data": self._manifest.schema.name,
            "targets": dict(targets),
            "manifest_sha256": self._digest,
            "seeds": list(self._seeds),
            "trainings": sum(1 if system.ablation else len(self._seeds) for system in self._systems),
            "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.system()},
            "seconds": time.monotonic() - self._started,
            "labels": {system.key: system.label for system in self._systems},
            "ablations": [system.key for system in self._systems if system.ablation],
            "results": {key: found for key, found in results.items() if found},
            "counting": counted,
            "extras": extras,
            "history_length": self._config.model.history_length,
            "epochs": self._config.training.epochs,
            "records": self._records,
            "rates": self._rates.to_plain(),
            "factors": {system.key: self._rates.of(system) for system in self._systems},
        }
        write_comparison(self._workdir, report)
        return report
