"""Runs a comparison: train and evaluate every system with every seed, then look at consistency and cost.

Killed, it goes on where it was when the same command is run again; the report is written anew after every result.
"""

import os
import platform
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from twin_tf.config import Config, load_config
from twin_tf.core.code_version import code_digest, commit
from twin_tf.core.dataclass_yaml import ConfigError, nearest
from twin_tf.core.files import JsonDict, read_json, write_json
from twin_tf.core.quiet_logs import quiet_processes
from twin_tf.core.result_cache import Provenance, ResultCache
from twin_tf.core.workdir import RESULTS
from twin_tf.experiments.comparison.measurements import MATCHES, Measurements
from twin_tf.experiments.comparison.rates import Rates, check_origin, further, shared_settings, untried
from twin_tf.experiments.comparison.report import write_comparison
from twin_tf.experiments.comparison.systems import Factors, System
from twin_tf.experiments.experiment import CODE, ExperimentRunner, Variant
from twin_tf.experiments.subprocess_runner import Steps
from twin_tf.records.format import Manifest
from twin_tf.search import make_search

quiet_processes()  # for every step; what matters comes as an exception

Work = TypeVar("Work")
Done = TypeVar("Done")

TAKEN = "seconds.json"

OWN = (
    "results",
    "runs",
    "extras",
    "served",
    "item-embeddings-*",
    "raw",
    "prepared",
    "*.json",
    "*.csv",
    "*.png",
    "*.md",
    "*.yaml",
)
"""What a comparison writes in its working directory."""

EMBEDDING_WIDTH = 64
EMBEDDING_SEED = 1

Results = dict[str, list[JsonDict]]


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
        records: of the test split, whose retrieved behaviours are compared with the true ones.
        verify: compare the data's files that hold no records with their SHA-256; records are always checked.

    Raises:
        ConfigError: the data have another schema, no truth, no category of that name, or no targets to choose rates by;
            the rates were tried with other ones; or the settings that all share are those of an ablation.
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
        *,
        verify: bool = True,
    ) -> None:
        if truth is not None and not (Path(truth) / MATCHES).is_file():
            raise ConfigError(f"{truth}: no {MATCHES}; this is the directory truth that `twin-tf simulate` writes")
        self._config = config
        self._prepared = str(Path(prepared).absolute())
        self._manifest = Manifest.load(prepared, verify=verify)
        self._digest = self._manifest.sha256
        self._verify = verify
        self._systems = list(systems)
        self._seeds = tuple(seeds)
        self._rates = rates
        self._truth = truth
        self._records = records
        self._jobs = jobs
        self._valid: JsonDict = {}
        self._started = time.monotonic()
        self._check_data()
        self._workdir = workdir.absolute()
        self._cache = ResultCache(self._workdir / RESULTS)
        self._steps = Steps(at_once=jobs, cache=self._cache)
        self._workdir.mkdir(parents=True, exist_ok=True)
        self._commit = commit()
        taken = read_json(self._workdir / TAKEN) if (self._workdir / TAKEN).is_file() else {}
        self._same = {"manifest_sha256": self._digest, "code": code_digest("twin_tf.experiments.comparison.run", *CODE)}
        same = {name: taken.get(name) for name in self._same} == self._same
        self._earlier = float(taken["seconds"]) if same else 0.0
        where = None if truth is None else str(Path(truth).absolute())
        ages = bool(self._manifest.counts.targets.get("valid"))
        self._measurements = Measurements(
            self._workdir, self._prepared, where, records, ages, self._steps, self._digest
        )

    def _check_data(self) -> None:
        model, schema, rates = self._config.model, self._manifest.schema, self._rates
        self._manifest.check_schema(self._config.schema)
        if not model.bias or model.relevance != "split" or model.consistency != "shared":
            raise ConfigError(
                "a comparison wants TWIN whole: leave model.bias, relevance and consistency at their defaults; "
                "TWIN without each of them is a system of its own"
            )
        category = model.searches.sim_hard.category
        if category is not None and category not in schema.inherent_slices:
            hint = nearest(category, schema.inherent_slices)
            raise ConfigError(f"model.searches.sim_hard.category {category!r} is no inherent feature of the data{hint}")
        to_try = [*untried(rates, self._systems), *further(rates, self._systems)]
        if to_try and not self._manifest.counts.targets.get("valid"):
            raise ConfigError("to choose rates the data need a valid split with targets, and these have none")
        check_origin(rates, self._digest, shared_settings(self._config))
        if self._truth is not None and schema.history.clustered:
            raise ConfigError("--truth knows single behaviours, but these histories are clustered; leave it out")

    def run(self) -> JsonDict:
        """Does what is left to do; returns the content of `report.json`.

        Raises:
            ConfigError: settings that suit no system, or data that cannot tell systems apart.
            ChildProcessError: a step failed; its own words are on stderr.
        """
        path = self._workdir / "config.yaml"
        self._config.save(path)
        for system in self._systems:
            self._check(system, path)
        embeddings = self._embeddings()
        self._tune(path, embeddings)
        yardsticks = self._yardsticks(path)

        def runner(seed: int) -> ExperimentRunner:
            return self._runner(path, (seed,))

        def variant(system: System) -> Variant:
            return self._variant(system, embeddings, self._rates.of(system))

        mains = [system for system in self._systems if not system.ablation]
        wanted = [(system, self._seeds[0]) for system in self._systems]
        wanted += [(system, seed) for seed in self._seeds[1:] for system in mains]
        done = {(system.key, seed): runner(seed).cached(variant(system), self._prepared) for system, seed in wanted}
        results = self._results(done)
        self._write(results, yardsticks)
        for (system, seed), found in self._at_once(
            lambda one: runner(one[1]).run(variant(one[0]), self._prepared), wanted
        ):
            if found[0]["gauc"] is None:
                raise ConfigError("nothing to compare: no user of the test split has targets of both labels")
            done[system.key, seed] = found
            results = self._results(done)
            self._write(results, yardsticks)
        first = {system.key: results[system.key][0]["run"] for system in self._systems}
        measured = self._measurements
        list(self._at_once(lambda system: measured.look(system, first[system.key]), self._systems))
        served = list(self._at_once(lambda system: measured.serve(system, first[system.key]), self._systems))
        for system, model in served:  # timed, so one at a time
            measured.time(system, first[system.key], model)
            self._write(results, yardsticks)
        return self._write(results, yardsticks)

    def _runner(self, path: Path, seeds: Sequence[int]) -> ExperimentRunner:
        return ExperimentRunner(self._workdir, str(path), seeds, self._steps, self._cache, verify=self._verify)

    def _results(self, done: dict[tuple[str, int], list[JsonDict]]) -> Results:
        """What there is of each system, by seed."""
        return {s.key: [one for seed in self._seeds for one in done.get((s.key, seed), ())] for s in self._systems}

    def _seconds(self) -> float:
        """What all calls of the command on these data took until now; notes it for the next one."""
        seconds = self._earlier + time.monotonic() - self._started
        write_json(self._workdir / TAKEN, {**self._same, "seconds": seconds})
        return seconds

    def _at_once(self, work: Callable[[Work], Done], wanted: Sequence[Work]) -> Iterator[tuple[Work, Done]]:
        """What is wanted with what came of it, in order, `jobs` at a time; after a failure no more begins."""
        if self._jobs == 1:
            yield from ((one, work(one)) for one in wanted)
            return
        over = threading.Event()

        def watched(one: Work) -> Done:
            if over.is_set():
                raise ChildProcessError("not begun: another step had failed")
            try:
                return work(one)
            except BaseException:
                over.set()
                raise

        pool = ThreadPoolExecutor(self._jobs)
        try:
            yield from zip(wanted, pool.map(watched, wanted), strict=True)
        except (KeyboardInterrupt, SystemExit):
            over.set()
            self._steps.stop()
            raise
        finally:
            over.set()
            pool.shutdown(cancel_futures=True)

    def _check(self, system: System, path: Path) -> None:
        """Whether the settings suit the system; asked before the first one is trained."""
        config = load_config(path, self._variant(system, "", Factors()).overrides)
        try:
            make_search(config.model, self._manifest.schema, 1, 1)
        except ConfigError as error:
            raise ConfigError(f"{system.key}: {error}; or leave it out of --systems") from error

    def _variant(self, system: System, embeddings: str, factors: Factors) -> Variant:
        return system.variant(embeddings, self._config.training, factors)

    def _tune(self, path: Path, embeddings: str) -> None:
        """Tries the rates that were not tried yet, with the first seed."""
        runner = self._runner(path, self._seeds[:1])

        def validated(one: tuple[System, Factors]) -> JsonDict:
            return runner.validated(self._variant(one[0], embeddings, one[1]), self._prepared)

        for left in (untried, further):
            for (system, factors), valid in self._at_once(validated, left(self._rates, self._systems)):
                if not valid or valid["gauc"] is None:
                    raise ConfigError(
                        "rates cannot be chosen: no user of the validation records has targets of both labels"
                    )
                self._rates = self._rates.having(system, factors, valid["gauc"])
                self._valid = {name: valid[name] for name in ("gauc_error", "targets", "users")}
                self._seconds()
        if self._rates.tried and self._rates.origin is None:
            about = {"data": self._manifest.schema.name, "manifest_sha256": self._digest, "seed": self._seeds[0]}
            about |= {"settings": shared_settings(self._config), "code": code_digest(*CODE), "commit": self._commit}
            write_json(self._workdir / "rates.json", {**self._rates.to_plain(), **about})

    def _embeddings(self) -> str:
        """The directory of frozen item embeddings: the configured one, or made of these data if any system needs it."""
        if self._config.training.item_embeddings:
            return self._config.training.item_embeddings
        settings = {"width": EMBEDDING_WIDTH, "seed": EMBEDDING_SEED}
        made = Provenance(settings, self._digest, code_digest("twin_tf.runs.item_embeddings"))
        output = self._workdir / f"item-embeddings-{made.key}"
        if any(system.needs_embeddings for system in self._systems):
            asked = ["item-embeddings", "--prepared", self._prepared, "--output", str(output)]
            asked += [] if self._verify else ["--no-verify"]
            asked += [part for name, value in settings.items() for part in (f"--{name}", str(value))]
            name = "item embeddings"
            self._steps.once(name, made, lambda: self._steps.run(name, *asked), [output], "item-embeddings")
        return str(output)

    def _yardsticks(self, path: Path) -> dict[str, JsonDict]:
        """What needs no network; counting by every category that any system goes by."""
        configs = [load_config(path, self._variant(system, "", Factors()).overrides) for system in self._systems]
        categories = [config.model.searches.sim_hard.category for config in (self._config, *configs)]
        from twin_tf.evaluation.yardsticks import compute_yardsticks, default_category

        schema = self._manifest.schema
        known = list(dict.fromkeys(name for name in categories if name is not None and name in schema.inherent_slices))
        known = known or [default_category(schema)]
        made = Provenance({"categories": known}, self._digest, code_digest("twin_tf.evaluation.yardsticks"))
        found = self._cache.read("yardsticks", made)
        if found is None:
            computed = compute_yardsticks(self._manifest, "test", known, trees=True)
            plain = {key: yardstick.to_plain() for key, yardstick in computed.items()}
            found = self._cache.write("yardsticks", made, {"yardsticks": plain})
        yardsticks: dict[str, JsonDict] = found["yardsticks"]
        return yardsticks

    def _rates_commit(self) -> str:
        """The commit whose code the rates were chosen by, if it was other code; else empty."""
        origin = self._rates.origin
        return str(origin["commit"]) if origin is not None and origin["code"] != code_digest(*CODE) else ""

    def _write(self, results: Results, yardsticks: dict[str, JsonDict]) -> JsonDict:
        first = {system: results[system.key][0]["run"] for system in self._systems if results[system.key]}
        extras = {system.key: self._measurements.of(system, run) for system, run in first.items()}
        targets = self._manifest.counts.targets
        report: dict[str, Any] = {
            "data": self._manifest.schema.name,
            "targets": dict(targets),
            "manifest_sha256": self._digest,
            "seeds": list(self._seeds),
            "trainings": sum(1 if system.ablation else len(self._seeds) for system in self._systems),
            "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.system()},
            "commit": self._commit,
            "seconds": self._seconds(),
            "labels": {system.key: system.label for system in self._systems},
            "ablations": [system.key for system in self._systems if system.ablation],
            "results": {key: found for key, found in results.items() if found},
            "yardsticks": yardsticks,
            "extras": {key: extra for key, extra in extras.items() if extra is not None},
            "history_length": self._config.model.history_length,
            "epochs": self._config.training.epochs,
            "records": self._records,
            "rates": {**self._rates.to_plain(), "other_code": self._rates_commit(), "valid": self._valid},
            "factors": {system.key: self._rates.of(system)._asdict() for system in self._systems},
            "unused": [found._asdict() for found in self._steps.unused() if "auc" in found.result],
        }
        write_comparison(self._workdir, report)
        return report
