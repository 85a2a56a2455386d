"""What is measured of a trained run beside its metrics: consistency, planted behaviours, what a request costs.

Each is measured once, in a process of its own, and kept: tied to the run and to the code that measures.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from twin_tf.core.code_version import code_digest
from twin_tf.core.files import JsonDict, sha256_of_file
from twin_tf.core.result_cache import KEY_DIGITS, Provenance, ResultCache
from twin_tf.experiments.comparison.latency import SIZES
from twin_tf.experiments.comparison.systems import System
from twin_tf.experiments.subprocess_runner import Steps

AGES = (0, 25, 50, 100, 200, 400)
"""Training steps that TWIN's projection table is old."""

LENGTH, CANDIDATES = 10_000, 100
"""Of the requests that are timed."""

MATCHES = "matches.parquet"
"""In the truth of simulated logs."""


class Measurements:
    """The measurements of one comparison.

    Args:
        workdir: of the comparison.
        prepared: prepared data.
        truth: the directory `truth` of simulated logs, to see which of the planted behaviours a search finds.
        records: of the test split, whose retrieved behaviours are compared with the true ones.
        ages: whether the data have validation records, on which an ageing table is looked at.
        steps: shares out the processors.
        data: a digest of the prepared data.
    """

    def __init__(
        self, workdir: Path, prepared: str, truth: str | None, records: int, ages: bool, steps: Steps, data: str
    ) -> None:
        self._workdir = workdir
        self._prepared = prepared
        self._truth = truth
        self._records = records
        self._ages = ages
        self._steps = steps
        self._data = data
        self._truth_digest = None if truth is None else sha256_of_file(Path(truth) / MATCHES)
        self._cache = ResultCache(workdir / "extras")

    def of(self, system: System, run: str) -> JsonDict | None:
        """All measurements of a system, of its first run; None if any is missing."""
        found = {what: self._kept(system, run, what) for what in (*self._wanted(system), "latency")}
        if None in found.values():
            return None
        ground_truth, latency = found.pop("ground_truth", None), found.pop("latency")
        shares = None if ground_truth is None else ground_truth["shares"]
        return {"ground_truth": shares, **(found.get("consistency") or {}), "latency": latency}

    def look(self, system: System, run: str) -> None:
        """Measures what a search finds. Several may run at once.

        Raises:
            ChildProcessError: it failed.
        """
        where = ("--run", run, "--prepared", self._prepared)
        for what in self._wanted(system):
            if self._kept(system, run, what) is not None:
                continue
            if what == "consistency":
                ages = ",".join(map(str, self._looked_ages(system)))
                found = self._module("consistency", *where, "--records", str(self._records), "--ages", ages)
            else:
                found = {"shares": self._module("ground_truth", *where, "--truth", str(self._truth))}
            self._cache.write(*self._named(system, run, what), found)

    def serve(self, system: System, run: str) -> Path:
        """Writes the run as a served model, if its latency is still to be measured. Several may run at once.

        Raises:
            ChildProcessError: it failed.
        """
        code = self._named(system, run, "latency")[1].code
        model = self._workdir / "served" / f"{Path(run).name}-{code[:KEY_DIGITS]}"
        if self._kept(system, run, "latency") is None and not (model / SIZES).is_file():  # it is written last
            shutil.rmtree(model, ignore_errors=True)
            asked = ("--run", run, "--output", str(model), "--length", str(LENGTH))
            self._module("latency", "export", *asked)
        return model

    def time(self, system: System, run: str, model: Path) -> None:
        """Measures what a request costs; nothing else may run.

        Raises:
            ChildProcessError: it failed.
        """
        if self._kept(system, run, "latency") is None:
            asked = ("--model", str(model), "--candidates", str(CANDIDATES), "--length", str(LENGTH))
            self._cache.write(*self._named(system, run, "latency"), self._module("latency", "time", *asked, alone=True))
        shutil.rmtree(model, ignore_errors=True)

    def _wanted(self, system: System) -> list[str]:
        """What is looked at of a search."""
        ground_truth = [] if self._truth is None else ["ground_truth"]
        return ground_truth if system.ablation and system.key != "twin_auxiliary" else [*ground_truth, "consistency"]

    def _looked_ages(self, system: System) -> tuple[int, ...]:
        return AGES if system.key == "twin" and self._ages else ()

    def _kept(self, system: System, run: str, what: str) -> JsonDict | None:
        found = self._cache.read(*self._named(system, run, what))
        return None if found is None else {name: value for name, value in found.items() if name != "commit"}

    def _named(self, system: System, run: str, what: str) -> tuple[str, Provenance]:
        """The name of a measurement, and what makes its result; the run's name stands for what made the run."""
        settings: dict[str, JsonDict] = {
            "consistency": {"records": self._records, "ages": list(self._looked_ages(system))},
            "ground_truth": {"truth": self._truth_digest},
            "latency": {"length": LENGTH, "candidates": CANDIDATES},
        }
        name = Path(run).name
        made = Provenance(
            {"run": name, **settings[what]}, self._data, code_digest(f"twin_tf.experiments.comparison.{what}")
        )
        return f"{name}.{what}", made

    def _module(self, name: str, *arguments: str, alone: bool = False) -> JsonDict:
        """Runs a module of this package; returns what it prints."""
        module = f"twin_tf.experiments.comparison.{name}"
        print(f"$ python -m {module} {' '.join(arguments)}", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", module, *arguments]
        with self._steps.process(command, alone=alone, stdout=subprocess.PIPE) as process:
            printed, _ = process.communicate()
        if process.returncode:
            raise ChildProcessError(f"{module} failed with exit code {process.returncode}; its message is above")
        found: JsonDict = json.loads(printed) if printed.strip() else {}
        return found
