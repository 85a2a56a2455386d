"""Does TWIN-V2 help where it should? Simulated users whose relevant behaviours lie beyond the latest 10^4.

    python -m benchmarks.lifelong_study --workdir runs/lifelong            # some hours on 2 cores
    python -m benchmarks.lifelong_study --workdir runs/lifelong --quick    # the same on a tenth, for a look

Users of the simulated video app with up to 100,000 behaviours, whose interests change so slowly that the latest 10,000
are about two or three of some 28. Targets show videos of any of them on another surface, whose clicks are no behaviours
(as with advertisements): what tells whether an interest is the user's lies, for most, beyond the latest 10,000.
Compared on the same targets:

* TWIN on the latest 10,000 behaviours;
* TWIN-V2 on all of them in clusters of at most 5, 10, 20 and 50, and of 20 without ln n;
* an oracle: TWIN on all of them, one by one, at whatever cost.

Killed, it goes on where it was when the same command is run again. Writes `report.md`, `report.json` and figures.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness import ROOT, machine, say
from benchmarks.lifelong_report import write_lifelong_report
from benchmarks.narrow import narrow_config
from twin_tf.arms import Arm, Arms
from twin_tf.code_version import commit
from twin_tf.command_steps import Plain, Steps

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # for every step; what matters comes as an exception

GAMMAS = (5, 10, 20, 50)
CHOSEN = 20
"""gamma of the systems that are compared in detail."""


class Load(NamedTuple):
    """What is simulated and looked at.

    Attributes:
        simulation: settings of `simulate_logs`.
        longest: behaviours of the longest history.
        window: entries that TWIN and TWIN-V2 look at.
        seeds: of training.
        records: of the test split, whose finalists are looked up in the truth.
    """

    simulation: dict[str, Any]
    longest: int
    window: int
    seeds: tuple[int, ...]
    records: int


FULL = Load(
    {
        "users": 80, "days": 500, "items": 24_000, "topics": 300, "median_history": 40_000, "max_history": 100_000,
        "spread": 1.0, "targets": 60_000, "target_share": 0.1, "explore": 0.03, "phase_sessions": 600, "returns": 0.0,
        "filler": 0.0, "seed": 1,
    },
    100_000, 10_000, (1,), 80,
)  # fmt: skip
QUICK = Load(
    {
        "users": 60, "days": 200, "items": 4_000, "topics": 60, "median_history": 3_000, "max_history": 10_000,
        "spread": 1.0, "targets": 12_000, "target_share": 0.1, "explore": 0.05, "phase_sessions": 60, "returns": 0.0,
        "filler": 0.0, "seed": 1,
    },
    10_000, 1_000, (1,), 40,
)  # fmt: skip


class System(NamedTuple):
    """An arm, and the clusters it is trained on; gamma 0: raw histories."""

    arm: Arm
    gamma: int


def systems(load: Load) -> list[System]:
    """What is compared."""
    found = [System(Arm("twin", f"TWIN, latest {load.window:,}"), 0)]
    found += [System(Arm(f"v2_gamma{gamma}", f"TWIN-V2, gamma {gamma}"), gamma) for gamma in GAMMAS]
    without = ("model.cluster_size=neither",)
    found.append(System(Arm("v2_without_ln", f"TWIN-V2, gamma {CHOSEN}, without ln n", without), CHOSEN))
    whole = (f"model.history_length={load.longest}", "training.batch_records=2")
    return [*found, System(Arm("oracle", f"oracle: TWIN on all {load.longest:,}", whole), 0)]


def study(workdir: Path, load: Load) -> Plain:
    """Runs whatever has not been done; returns the content of `report.json`."""
    steps = Steps()
    workdir.mkdir(parents=True, exist_ok=True)
    _claim(workdir, load)
    config = _config(workdir, load)
    raw, prepared = workdir / "raw", workdir / "prepared"
    if not raw.exists():
        settings = [part for name, value in load.simulation.items() for part in ("--set", f"{name}={value}")]
        steps.run("simulate", "simulate", "--output", str(raw), *settings)
    if not prepared.exists():
        logs = [part for log in ("events", "items", "users") for part in (f"--{log}", f"{raw}/{log}*.parquet")]
        steps.run("preprocess", "preprocess", "--config", config, *logs, "--output", str(prepared))
    arms = Arms(workdir, config, load.seeds, steps)
    source = ""
    results: dict[str, list[Plain]] = {}
    for system in systems(load):
        data = prepared if not system.gamma else _clustered(steps, workdir, config, prepared, source, system.gamma)
        found = arms.run(system.arm, data)
        source = source or found[0]["run"]
        covered = _coverage(workdir, found[0], prepared, raw, source, load.records)
        results[system.arm.key] = [{**one, "gamma": system.gamma, "coverage": covered} for one in found]
        report = _report(workdir, load, results, steps)
        write_lifelong_report(workdir, report)
    return report


def _claim(workdir: Path, load: Load) -> None:
    """Refuses a directory with a study of other logs; more seeds or records go on in it."""
    simulated = json.dumps({**load.simulation, "longest": load.longest, "window": load.window}, indent=1) + "\n"
    kept = workdir / "load.json"
    if kept.exists() and kept.read_text(encoding="utf-8") != simulated:
        raise SystemExit(f"{workdir} holds a study of another load; name another --workdir")
    kept.write_text(simulated, encoding="utf-8")


def _config(workdir: Path, load: Load) -> str:
    """The simulated configuration for such histories."""
    overrides = [
        f"schema.history.max_length={load.longest}",
        f"model.history_length={load.window}",
        "clusters.period_days=15",
        "schema.history.where.feed=[1]",
        "schema.split.train=0.6",  # a larger test split: there are few users
    ]
    path = workdir / "config.yaml"
    plain = narrow_config(overrides)
    if not path.exists():
        plain.save(path)
    return str(path)


def _clustered(steps: Steps, workdir: Path, config: str, prepared: Path, source: str, gamma: int) -> Path:
    output = workdir / f"clustered-{gamma}"
    if not output.exists():
        settings = ("--config", config, "--set", f"clusters.gamma={gamma}")
        where = ("--prepared", str(prepared), "--run", source, "--output", str(output))
        steps.run(f"cluster, gamma {gamma}", "cluster", *settings, *where, "--workers", "2")
    return output


def _coverage(workdir: Path, result: Plain, prepared: Path, raw: Path, source: str, records: int) -> Plain:
    kept = workdir / "coverage" / f"{Path(result['run']).name}.json"
    if not kept.is_file():
        say(f"coverage of {result['label']}")
        command = [sys.executable, "-m", "benchmarks.lifelong_coverage", "--run", result["run"]]
        command += ["--prepared", result["prepared"], "--raw", str(prepared), "--logs", str(raw), "--source", source]
        done = subprocess.run(
            [*command, "--records", str(records)], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
        )
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(done.stdout, encoding="utf-8")
    found: Plain = json.loads(kept.read_text(encoding="utf-8"))
    return found


def _report(workdir: Path, load: Load, results: dict[str, list[Plain]], steps: Steps) -> Plain:
    clusters = {}
    for gamma in GAMMAS:
        path = workdir / f"clustered-{gamma}" / "clusters.json"
        if path.is_file():
            whole = json.loads(path.read_text(encoding="utf-8"))["splits"]["histories"]
            clusters[str(gamma)] = {name: whole[name] for name in ("behaviours", "entries", "records", "largest")}
    return {
        "load": {**load.simulation, "window": load.window, "seeds": list(load.seeds)},
        "commit": commit(),
        "machine": machine(),
        "systems": results,
        "clusters": clusters,
        "steps": steps.taken,
    }


def main() -> None:
    """Runs the study."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, for a look")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds (default: 1)")
    options = parser.parse_args()
    load = QUICK if options.quick else FULL
    study(options.workdir.absolute(), load._replace(seeds=tuple(range(1, options.seeds + 1))))
    print(f"{options.workdir}/report.md")


if __name__ == "__main__":
    main()
