"""Several systems on prepared data, each trained and evaluated with several seeds: what every comparison is made of.

What is done is kept in the working directory, tied to the settings in full, the data and the code. So a comparison that
was interrupted goes on where it was: a trained run is not trained again, a killed one is resumed, and an evaluation
that was written is read. Other settings, data or code make another run.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click

from twin_tf.config import load_config
from twin_tf.core.code_version import code_digest
from twin_tf.core.files import JsonDict, read_json, sha256_of_file
from twin_tf.core.result_cache import Provenance, ResultCache
from twin_tf.experiments.subprocess_runner import Steps
from twin_tf.records.format import MANIFEST

TRAINING = "twin_tf.training.train"
CODE = (TRAINING, "twin_tf.evaluation.evaluate")
"""The modules that make a result of a system."""


class Variant(NamedTuple):
    """One system.

    Attributes:
        key: of its figures and directories.
        label: in tables and figures.
        overrides: `section.key=value`, what differs from the configuration.
    """

    key: str
    label: str
    overrides: tuple[str, ...] = ()


class ExperimentRunner:
    """Trains and evaluates.

    Args:
        workdir: where runs are kept.
        config: the configuration that all systems share: a file, or a shipped name.
        seeds: of the random starts and of shuffling.
        steps: runs the commands.
        cache: of the results; that of `steps`.
        verify: whether the commands compare the data's files with their SHA-256.
    """

    def __init__(
        self,
        workdir: Path,
        config: str,
        seeds: Sequence[int],
        steps: Steps,
        cache: ResultCache,
        *,
        verify: bool = True,
    ) -> None:
        self._unverified = () if verify else ("--no-verify",)
        self._workdir = workdir
        self._config = config
        self._seeds = tuple(seeds)
        self._steps = steps
        self._cache = cache

    def run(self, variant: Variant, prepared: str | Path) -> list[JsonDict]:
        """One result a seed: metrics of the test split, `by_history_length`, `run`, `seed`, and what training took."""
        return [self._one(variant, prepared, seed) for seed in self._seeds]

    def cached(self, variant: Variant, prepared: str | Path) -> list[JsonDict]:
        """What `run` has returned already, of the seeds that are done."""
        found = []
        for seed in self._seeds:
            provenance = self._provenance(variant, prepared, seed)
            result = self._cache.read(self._stem(variant, seed), provenance)
            if result is not None:
                found.append(self._placed(result, variant, prepared, seed, provenance))
        return found

    def validated(self, variant: Variant, prepared: str | Path) -> JsonDict:
        """Trains with the first seed alone; metrics of the validation records. The test split is not looked at."""
        provenance = self._provenance(variant, prepared, self._seeds[0])
        found: JsonDict = self._trained(variant, prepared, self._seeds[0], provenance)["kept"]["valid"]
        return found

    def _one(self, variant: Variant, prepared: str | Path, seed: int) -> JsonDict:
        provenance = self._provenance(variant, prepared, seed)
        trained = self._trained(variant, prepared, seed, provenance)
        run, name = self._run(variant, seed, provenance), f"evaluate {self._name(variant, seed)}"
        where = ("--prepared", str(prepared), "--run", str(run), *self._unverified)

        def evaluated() -> JsonDict:
            found = self._steps.run(name, "evaluate", "--no-yardsticks", *where)
            return {
                **found["metrics"],
                "key": variant.key,
                "label": variant.label,
                "seed": seed,
                "overrides": list(variant.overrides),
                "by_history_length": found["by_history_length"],
                "intervals": found.get("intervals"),
                "requests": found.get("requests"),
                **{name: trained[name] for name in ("train_seconds", "examples_per_s", "epochs", "valid")},
                "train_peak_rss_mb": trained["peak_rss_mb"],
                "trained_at_once": trained["at_once"],
                "tables": trained.get("tables", {}),
                "relevance_statistics": trained.get("relevance_statistics", False),
            }

        result = self._steps.once(name, provenance, evaluated, [], self._stem(variant, seed))
        return self._placed(result, variant, prepared, seed, provenance)

    def _placed(
        self, result: JsonDict, variant: Variant, prepared: str | Path, seed: int, provenance: Provenance
    ) -> JsonDict:
        """A result with where things lie now: the working directory may have moved since it was kept."""
        return {**result, "run": str(self._run(variant, seed, provenance)), "prepared": str(prepared)}

    def _trained(self, variant: Variant, prepared: str | Path, seed: int, provenance: Provenance) -> JsonDict:
        """The report of the trained run, with `peak_rss_mb` (None if the process that measured it was killed)."""
        run, name = self._run(variant, seed, provenance), f"train {self._name(variant, seed)}"
        options = [part for setting in self._settings(variant, seed) for part in ("--set", setting)]
        where = ("--prepared", str(prepared), "--run", str(run), *self._unverified)

        def trained() -> JsonDict:
            _remove_if_mixed(run)
            if (run / "run.json").is_file() and read_json(run / "run.json").get("weights_version"):
                report = read_json(run / "report.json")  # trained to its end by a call that was killed right then
                self._steps.add(name, report["train_seconds"], 0.0)
                return {**report, "peak_rss_mb": None, "at_once": None}
            return self._steps.run(name, "train", "--config", self._config, *options, *where)

        stem = f"{self._stem(variant, seed)}.train"
        if not (run / "run.json").is_file():  # somebody has removed it
            self._cache.path(stem, provenance).unlink(missing_ok=True)
        return self._steps.once(name, provenance, trained, [], stem)

    def _settings(self, variant: Variant, seed: int) -> list[str]:
        return [*variant.overrides, f"training.seed={seed}"]

    def _name(self, variant: Variant, seed: int) -> str:
        return variant.key if len(self._seeds) == 1 else f"{variant.key}, seed {seed}"

    def _stem(self, variant: Variant, seed: int) -> str:
        return f"{variant.key}-seed{seed}"

    def _run(self, variant: Variant, seed: int, provenance: Provenance) -> Path:
        """The run's directory: of the same settings on the same data by the same code only."""
        return self._workdir / "runs" / f"{self._stem(variant, seed)}-{provenance.key}"

    def _provenance(self, variant: Variant, prepared: str | Path, seed: int) -> Provenance:
        settings = load_config(self._config, self._settings(variant, seed)).to_plain(defaults=True)
        del settings["serving"], settings["clusters"]  # no training reads them
        embeddings = settings["training"]["item_embeddings"]
        if embeddings is not None:  # what they are counts, not where they lie
            settings["training"]["item_embeddings"] = _digest(Path(embeddings) / MANIFEST)
        return Provenance(settings, _digest(Path(prepared) / MANIFEST), code_digest(*CODE))


def _digest(path: Path) -> str:
    return sha256_of_file(path) if path.is_file() else f"no {path}"


def _remove_if_mixed(run: Path) -> None:
    """Removes a run that other code has trained into: files that were changed while it ran, and then changed back."""
    info = run / "run.json"
    if info.is_file() and read_json(info).get("code") != [code_digest(TRAINING)]:
        click.echo(f"{run} was trained by other code, wholly or in part; it is trained anew", err=True)
        shutil.rmtree(run)
