"""What is measured of a trained run beside its metrics: consistency, planted behaviours, what a request costs.

Each is measured in a process of its own and kept in a file, so it is measured once.
"""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

from twin_tf.arms import read_plain, write_whole
from twin_tf.command_steps import Plain, Steps
from twin_tf.comparison.latency import SIZES
from twin_tf.comparison.systems import System

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
        records: of the test split, whose finalists are compared with the true ones.
        ages: whether the data have validation records, on which an ageing table is looked at.
        steps: shares out the processors.
    """

    def __init__(self, workdir: Path, prepared: str, truth: str | None, records: int, ages: bool, steps: Steps) -> None:
        self._workdir = workdir
        self._prepared = prepared
        self._truth = truth
        self._records = records
        self._ages = ages
        self._steps = steps
        known = None if truth is None else hashlib.sha256((Path(truth) / MATCHES).read_bytes()).hexdigest()
        self._planted = None if known is None else f"planted-{known[:10]}"

    def of(self, system: System, run: str) -> Plain | None:
        """All measurements of a system, of its first run; None if any is missing."""
        wanted = self._wanted(system)
        if not all(self._kept(run, what).is_file() for what in (*wanted, "latency")):
            return None
        consistency = read_plain(self._kept(run, "consistency")) if "consistency" in wanted else {}
        planted = None if self._planted is None else read_plain(self._kept(run, self._planted))["shares"]
        return {"planted": planted, **consistency, "latency": read_plain(self._kept(run, "latency"))}

    def look(self, system: System, run: str) -> None:
        """Measures what a search finds. Several may run at once.

        Raises:
            ChildProcessError: it failed.
        """
        where = ("--run", run, "--prepared", self._prepared)
        for what in self._wanted(system):
            kept = self._kept(run, what)
            if kept.is_file():
                continue
            if what == "consistency":
                ages = ",".join(map(str, AGES)) if system.key == "twin" and self._ages else ""
                found = self._module("consistency", *where, "--records", str(self._records), "--ages", ages)
            else:
                found = {"shares": self._module("planted", *where, "--truth", str(self._truth))}
            write_whole(kept, found)

    def serve(self, run: str) -> Path:
        """Writes the run as a served model, if its latency is still to be measured. Several may run at once.

        Raises:
            ChildProcessError: it failed.
        """
        model = self._workdir / "served" / Path(run).name
        if not self._kept(run, "latency").is_file() and not (model / SIZES).is_file():  # it is written last
            shutil.rmtree(model, ignore_errors=True)
            asked = ("--run", run, "--output", str(model), "--length", str(LENGTH))
            self._module("latency", "export", *asked)
        return model

    def time(self, run: str, model: Path) -> None:
        """Measures what a request costs; nothing else may run.

        Raises:
            ChildProcessError: it failed.
        """
        kept = self._kept(run, "latency")
        if not kept.is_file():
            asked = ("--model", str(model), "--candidates", str(CANDIDATES), "--length", str(LENGTH))
            write_whole(kept, self._module("latency", "time", *asked, alone=True))
        shutil.rmtree(model, ignore_errors=True)

    def _wanted(self, system: System) -> list[str]:
        """The files of what a search finds."""
        planted = [] if self._planted is None else [self._planted]
        return planted if system.ablation and system.key != "twin_auxiliary" else [*planted, "consistency"]

    def _kept(self, run: str, what: str) -> Path:
        return self._workdir / "extras" / f"{Path(run).name}.{what}.json"

    def _module(self, name: str, *arguments: str, alone: bool = False) -> Plain:
        """Runs a module of this package; returns what it prints."""
        module = f"twin_tf.comparison.{name}"
        print(f"$ python -m {module} {' '.join(arguments)}", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", module, *arguments]
        with self._steps.process(command, alone=alone, stdout=subprocess.PIPE) as process:
            printed, _ = process.communicate()
        if process.returncode:
            raise ChildProcessError(f"{module} failed with exit code {process.returncode}; its message is above")
        found: Plain = json.loads(printed) if printed.strip() else {}
        return found
