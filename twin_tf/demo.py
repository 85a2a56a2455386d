"""The main job from raw logs to served probabilities, step by step, with the same commands that a user types.

    python -m twin_tf.demo --data complete-journey --workdir runs/demo

Every step is a process of its own; its command is shown, its time and memory are measured.
"""

import os
import platform
import shutil
import time
from pathlib import Path
from typing import NamedTuple

import click

from twin_tf.arms import Arm, Arms
from twin_tf.command_steps import Plain, Steps
from twin_tf.records import Manifest
from twin_tf.strict_yaml import ConfigError

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # also for every step; what matters comes as an exception


class DemoData(NamedTuple):
    """One data set: its title, configuration, the command that makes its raw logs, the category that counting uses."""

    title: str
    config: str
    source: tuple[str, ...]
    category: str
    arms: tuple[Arm, ...]


TWIN = Arm("twin", "TWIN")
PLAIN = Arm("twin_plain", "TWIN, paper form (no evidence)", ("model.evidence=false",))
DIN = Arm("din", "DIN (latest 100)", ("model.search=recent",))

DATA = {
    "complete-journey": DemoData(
        "TWIN on The Complete Journey",
        "complete_journey",
        ("import", "complete-journey"),
        "category",
        (TWIN, PLAIN, DIN),
    ),
    "simulated": DemoData("TWIN on simulated logs", "simulated", ("simulate",), "topic", (TWIN, DIN)),
}

MARKER = "demo.json"


def run_demo(name: str, workdir: Path) -> Plain:
    """Runs the whole job into a new working directory.

    Args:
        name: a key of `DATA`.
        workdir: replaced if an earlier demo wrote it.

    Returns:
        The content of `report.json`, and `latencies_ms`.

    Raises:
        ConfigError: the directory holds something else.
        ChildProcessError: a step failed.
    """
    from export.local_server import start_local_server
    from twin_tf.report import write_report

    data = DATA[name]
    _clear(workdir)
    steps = Steps()
    path = {part: str(workdir / part) for part in ("raw", "prepared", "model", "serving")}
    started = time.monotonic()
    steps.run(data.source[0], *data.source, "--output", path["raw"])
    logs = [part for log in ("events", "items", "users") for part in (f"--{log}", f"{path['raw']}/{log}*.parquet")]
    steps.run("preprocess", "preprocess", "--config", data.config, *logs, "--output", path["prepared"])
    arms = Arms(workdir, data.config, (1,), steps)
    systems = {arm.key: arms.run(arm, path["prepared"])[0] for arm in data.arms}
    exported = steps.run("export", "export", "--run", systems["twin"]["run"], "--output", path["model"])
    steps.run("validate", "validate", path["model"])
    steps.run("publish", "publish", path["model"], "--base-path", path["serving"])
    click.secho(f"\n$ twin-tf serve --base-path {path['serving']} --port 0", fg="cyan", err=True)
    begun = time.monotonic()
    with start_local_server(path["serving"]) as server:
        serve_seconds = time.monotonic() - begun
        arguments = ("--model", path["model"], "--server", server.address)
        served = steps.run("predict", "predict", *arguments, "--replay")
        steps.add("serve (start)", serve_seconds, _peak_of(server.process.pid))
    systems |= _count(steps, path["prepared"], data.category)
    report = _report(data, steps, systems, exported, served, time.monotonic() - started)
    write_report(workdir, report)
    return report


def _count(steps: Steps, prepared: str, category: str) -> dict[str, Plain]:
    """The counting baseline, over the latest 100 behaviours and over all."""
    from twin_tf.counting import counting_baselines

    begun = time.monotonic()
    manifest = Manifest.load(prepared)
    counted: dict[str, Plain] = {
        f"counting_{window or 'all'}": {**metrics.to_plain(), "label": label}
        for window, (label, metrics) in counting_baselines(manifest, category).items()
    }
    steps.add("count (baseline)", time.monotonic() - begun, _peak_of(os.getpid()))
    return counted


def _report(
    data: DemoData, steps: Steps, systems: dict[str, Plain], exported: Plain, served: Plain, seconds: float
) -> Plain:
    twin, din = systems["twin"], systems["din"]
    calls = (
        f"{served['requests']:,} Predict calls one after the other over loopback; median "
        f"{served['median_history']:.0f} behaviours, {served['median_candidates']:.0f} candidates"
    )
    peak = max(step["peak_rss_mb"] for step in steps.taken)
    targets = f"{twin['targets']:,} targets of the test split"
    rows = [
        ("gauc_twin", twin["gauc"], "", targets),
        ("gauc_din", din["gauc"], "", targets),
        ("auc_twin", twin["auc"], "", targets),
        ("auc_din", din["auc"], "", targets),
        ("overlap_at_100", served["overlap_at_100"], "%", "of the trainer's finalists, found by the server's retrieve"),
        ("served_minus_trained_max", served["served_minus_trained_max"], "", f"{served['requests']:,} requests"),
        ("p50_ms", served["p50_ms"], "ms", calls),
        ("p99_ms", served["p99_ms"], "ms", calls),
        ("seconds_total", seconds, "s", "all steps, installation apart"),
        ("peak_rss_mb", peak, "MB", "largest process of all steps"),
        ("examples_per_s", twin["examples_per_s"], "1/s", "targets a second while TWIN trained"),
        ("export_mb", exported["bytes"] / 1e6, "MB", "the whole model directory"),
    ]
    return {
        "title": data.title,
        "load": {"data": data.config, "epochs": twin["epochs"]},
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.system()},
        "systems": {system["label"]: system for system in systems.values()},
        "findings": _findings(systems, served),
        "figures": [dict(zip(("name", "value", "unit", "how"), row, strict=True)) for row in rows],
        "steps": steps.taken,
        "latencies_ms": served["latencies_ms"],
    }


def _findings(systems: dict[str, Plain], served: Plain) -> list[str]:
    twin, din, counted = systems["twin"], systems["din"], systems["counting_all"]
    lines = [
        f"TWIN reaches AUC {twin['auc']:.4f} and GAUC {twin['gauc']:.4f} on the test split, "
        f"{twin['auc'] - din['auc']:+.4f} and {twin['gauc'] - din['gauc']:+.4f} against DIN, which sees the latest 100 "
        "behaviours.",
        f"Counting over the whole history, without any learning, reaches AUC {counted['auc']:.4f}.",
    ]
    if "twin_plain" in systems:
        plain = systems["twin_plain"]
        lines.append(
            f"Without the evidence features, as in the paper, TWIN reaches AUC {plain['auc']:.4f} and GAUC "
            f"{plain['gauc']:.4f}. The evidence (log-sum-exp and maximum of the finalists' relevance beside the "
            f"target's own, which a softmax forgets) is worth {twin['auc'] - plain['auc']:+.4f} AUC here."
        )
    lines.append(
        f"The served probabilities of {served['requests']:,} requests differ from the trainer's by at most "
        f"{served['served_minus_trained_max']:.1g}."
    )
    return [f"* {line}" for line in lines]


def _clear(workdir: Path) -> None:
    """Removes what an earlier demo left; refuses anything else."""
    if workdir.exists() and any(workdir.iterdir()):
        if not (workdir / MARKER).is_file():
            raise ConfigError(f"{workdir} holds something that no demo wrote; name another --workdir")
        shutil.rmtree(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / MARKER).write_text("{}\n", encoding="utf-8")


def _peak_of(pid: int) -> float:
    """Peak resident memory of a running process in MB; 0 where the system does not say."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    return next((float(line.split()[1]) / 1e3 for line in lines if line.startswith("VmHWM")), 0.0)


@click.command()
@click.option("--data", "name", default="complete-journey", show_default=True, type=click.Choice(sorted(DATA)))
@click.option("--workdir", required=True, type=click.Path(path_type=Path), help="Replaced if an earlier demo wrote it.")
def main(name: str, workdir: Path) -> None:
    """Raw logs to served probabilities, with a report at the end."""
    from rich.console import Console
    from rich.table import Table

    from twin_tf.report import quality_table

    try:
        report = run_demo(name, workdir)
    except (ConfigError, ChildProcessError) as error:
        raise click.ClickException(str(error)) from error
    table = Table("system", "AUC", "GAUC", "log loss", "training s", title=report["title"], title_justify="left")
    for row in quality_table(report["systems"]):
        table.add_row(*row)
    console = Console()
    console.print(table)
    for figure in report["figures"]:
        console.print(f"  {figure['name']:<26}{figure['value']:.6g} {figure['unit']}", highlight=False)
    console.print(f"\nReport: {workdir / 'report.md'}", highlight=False)


if __name__ == "__main__":
    main()
