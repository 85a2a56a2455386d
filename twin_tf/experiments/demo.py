"""The main job from raw logs to served probabilities, step by step, with the same commands that a user types.

    python -m twin_tf.experiments.demo --data complete-journey --workdir runs/demo

Every step is a process of its own; its command is shown, its time and memory are measured. What is done is kept: called
again after a kill or a failure, the demo goes on where it was, with what the same settings, data and code have made.
"""

import contextlib
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import click

from twin_tf.core.code_version import code_digest, commit
from twin_tf.core.errors import UserError
from twin_tf.core.files import JsonDict, digest_of_files, full_disk
from twin_tf.core.quiet_logs import quiet_processes
from twin_tf.core.result_cache import Provenance, ResultCache
from twin_tf.core.workdir import RESULTS, claimed_workdir
from twin_tf.experiments.demo_report import Done, build_report, quality_table, write_report
from twin_tf.experiments.experiment import ExperimentRunner, Variant
from twin_tf.experiments.shipped_data import SHIPPED, ShippedData, make_prepared
from twin_tf.experiments.subprocess_runner import StepFailedError, Steps
from twin_tf.records.format import MANIFEST, Manifest

quiet_processes()  # also for every step; what matters comes as an exception

TWIN = Variant("twin", "TWIN")
PLAIN = Variant("twin_plain", "TWIN, paper form (no relevance statistics)", ("model.relevance_statistics=false",))
DIN = Variant("din", "DIN (latest 100)", ("model.search=din",))


class Demo(NamedTuple):
    """What a demo does.

    Attributes:
        data: whose logs.
        variants: the systems that are trained; `TWIN` and `DIN` among them.
    """

    data: ShippedData
    variants: tuple[Variant, ...]


DEMOS = {
    "complete-journey": Demo(SHIPPED["complete-journey"], (TWIN, PLAIN, DIN)),
    "simulated": Demo(SHIPPED["simulated"], (TWIN, DIN)),
}


def run_demo(demo: Demo, workdir: Path, again: Sequence[str], fresh: bool = False) -> JsonDict:
    """Runs whatever is left of the job, and writes the report in any case.

    Args:
        demo: what to do.
        workdir: a new directory, or that of an earlier demo, which goes on.
        again: the command that goes on after a failure, for the report.
        fresh: begin with nothing.

    Returns:
        The content of `report.json`, and `latencies_ms`; `failed` says which step failed and why, if one did.

    Raises:
        ConfigError: the directory holds something else, cannot be written or is in use.
        KeyboardInterrupt: the report of what was done is written; likewise with whatever else ends it.
    """
    with claimed_workdir(workdir, "demo", fresh=fresh):
        job = _Job(demo, workdir)
        failed: JsonDict | None = None
        try:
            job.run()
        except BaseException as error:
            failed = _failure(job, error, again)
            if not isinstance(error, (UserError, ValueError, OSError, RuntimeError)):
                raise
        finally:
            report = build_report(demo.data, job.done, commit(), failed)
            try:
                write_report(workdir, report)
            except OSError as error:
                report = {"failed": {"step": "report", "why": _why(error), "command": shlex.join(again)}, **report}
        return report


def _failure(job: "_Job", error: BaseException, again: Sequence[str]) -> JsonDict:
    return {"step": job.done.steps.current, "why": _why(error), "command": shlex.join(again)}


def _why(error: BaseException) -> str:
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        return "it was interrupted"
    if isinstance(error, StepFailedError):
        return error.why
    return full_disk(error) or str(error) or type(error).__name__


class _Job:
    """The steps of one demo; `done` is what has come of them so far."""

    def __init__(self, demo: Demo, workdir: Path) -> None:
        self._demo = demo
        self._workdir = workdir
        self._cache = ResultCache(workdir / RESULTS)
        self.done = Done(Steps(cache=self._cache))

    def run(self) -> None:
        """Does what is left, in order.

        Raises:
            StepFailedError: a command failed.
            ValueError: the server cannot start.
            OSError: for example, the disk is full.
        """
        done, data, workdir = self.done, self._demo.data, self._workdir
        prepared = make_prepared(data, done.steps, workdir)
        runner = ExperimentRunner(workdir, data.config, (1,), done.steps, self._cache)
        for variant in self._demo.variants:
            done.systems[variant.key] = runner.run(variant, prepared)[0]
        done.nearest = self._nearest(Path(done.systems["twin"]["run"]), prepared)
        model, serving = workdir / "model", workdir / "serving"
        run = Path(done.systems["twin"]["run"])
        asked = ("--run", str(run), "--prepared", str(prepared), "--output", str(model))
        done.exported = self._step(
            "export", {}, digest_of_files([run / "run.json"]), [model], "export.saved_model.exporter", asked
        )
        exported = digest_of_files(path for path in model.rglob("*") if path.is_file())
        self._step("validate", {}, exported, [], "export.gate.validate", (str(model),))
        self._step(
            "publish", {}, exported, [serving], "export.publishing.publisher", (str(model), "--base-path", str(serving))
        )
        done.served = self._replay(model, serving, exported)
        # They come last: they load TensorFlow here, and a child's peak memory counts its parent's.
        done.yardsticks = self._yardsticks(prepared)

    def _step(
        self,
        name: str,
        settings: JsonDict,
        data: str,
        outputs: Sequence[Path],
        code: str,
        arguments: Sequence[str],
    ) -> JsonDict:
        steps = self.done.steps
        made = Provenance(settings, data, code_digest(code))
        return steps.once(name, made, lambda: steps.run(name, name, *arguments), outputs)

    def _nearest(self, run: Path, prepared: Path) -> JsonDict:
        """The nearest of some well-known items, by TWIN's embeddings."""
        steps = self.done.steps
        made = Provenance({}, digest_of_files([run / "run.json"]), code_digest("twin_tf.evaluation.nearest_items"))
        asked = ("inspect", "--run", str(run), "--prepared", str(prepared))
        return steps.once("inspect", made, lambda: steps.run("inspect", *asked))

    def _replay(self, model: Path, serving: Path, exported: str) -> JsonDict:
        """Sends the model's probes to a server on the base path."""
        steps = self.done.steps
        made = Provenance({}, exported, code_digest("export.client.replay", "export.local_server.server"))

        def served() -> JsonDict:
            calls = self._workdir / "latency.csv"
            asked = ["--model", str(model), "--replay", "--latencies", str(calls)]
            with self._server(serving) as address:
                found = steps.run("predict", "predict", *asked, "--server", address)
            return {**found, "latencies_ms": [float(taken) for taken in calls.read_text().split()[1:]]}

        return steps.once("predict", made, served)

    @contextlib.contextmanager
    def _server(self, serving: Path) -> Iterator[str]:
        from export.local_server.server import start_local_server

        steps = self.done.steps
        steps.current = "serve"
        click.secho(f"\n$ twin-tf serve --base-path {serving} --port 0", fg="cyan", err=True)
        begun = time.monotonic()
        with start_local_server(serving) as server:
            steps.add("serve (start)", time.monotonic() - begun, _peak_of(server.process.pid))
            yield server.address

    def _yardsticks(self, prepared: Path) -> dict[str, JsonDict]:
        """What needs no network, on the same targets."""
        steps, category = self.done.steps, self._demo.data.category
        made = Provenance(
            {"category": category},
            digest_of_files([prepared / MANIFEST]),
            code_digest("twin_tf.evaluation.yardsticks"),
        )

        def computed() -> JsonDict:
            from twin_tf.evaluation.yardsticks import compute_yardsticks

            begun = time.monotonic()
            found = compute_yardsticks(Manifest.load(prepared), "test", [category], trees=True)
            steps.add("yardsticks", time.monotonic() - begun, _peak_of(os.getpid()))
            return {"yardsticks": {key: yardstick.to_plain() for key, yardstick in found.items()}}

        found: dict[str, JsonDict] = steps.once("yardsticks", made, computed)["yardsticks"]
        return found


def _peak_of(pid: int) -> float:
    """Peak resident memory of a running process in MB; 0 where the system does not say."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    return next((float(line.split()[1]) / 1e3 for line in lines if line.startswith("VmHWM")), 0.0)


@click.command()
@click.option("--data", "name", default="complete-journey", show_default=True, type=click.Choice(sorted(DEMOS)))
@click.option("--workdir", required=True, type=click.Path(path_type=Path), help="New, or that of an earlier demo.")
@click.option("--fresh", is_flag=True, help="Begin with nothing: remove what earlier calls kept in --workdir.")
def main(name: str, workdir: Path, fresh: bool) -> None:
    """Raw logs to served probabilities, with a report at the end; called again after a failure, it goes on."""
    from rich.console import Console
    from rich.table import Table

    python = Path(sys.executable)
    shown = python.relative_to(Path.cwd()) if python.is_relative_to(Path.cwd()) else python
    again = [str(shown), "-m", "twin_tf.experiments.demo", "--data", name, "--workdir", str(workdir)]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the report is written, and what it began ends
    try:
        report = run_demo(DEMOS[name], workdir, again, fresh)
    except (UserError, OSError) as error:
        raise click.ClickException(_why(error)) from error
    except KeyboardInterrupt:
        raise click.ClickException(f"stopped; what is done is kept. To go on: {shlex.join(again)}") from None
    console = Console()
    if report["systems"]:
        table = Table("system", "AUC", "GAUC", "log loss", "training s", title=report["title"], title_justify="left")
        for row in quality_table(report["systems"], report["yardsticks"]):
            table.add_row(*row)
        console.print(table)
    for figure in report["figures"]:
        console.print(f"  {figure['name']:<26}{figure['value']:.6g} {figure['unit']}", highlight=False)
    console.print(f"\nReport: {workdir / 'report.md'}", highlight=False)
    if "failed" in report:
        failed = report["failed"]
        raise click.ClickException(
            f"the step {failed['step']!r} failed: {failed['why']}\nWhat is done is kept. To go on: {failed['command']}"
        )


if __name__ == "__main__":
    main()
