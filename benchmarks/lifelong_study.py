"""Does TWIN-V2 help where it should? Simulated users whose relevant behaviours lie beyond the latest 10^4.

    python -m benchmarks.lifelong_study --workdir runs/lifelong            # about an hour on 2 cores
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
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness import ROOT, machine, say
from benchmarks.lifelong_report import write_lifelong_report
from benchmarks.narrow import narrow_config
from twin_tf.config import load_config
from twin_tf.core.code_version import code_digest, commit
from twin_tf.core.dataclass_yaml import to_plain
from twin_tf.core.files import JsonDict, digest_of_files
from twin_tf.core.quiet_logs import quiet_processes
from twin_tf.core.result_cache import Provenance, ResultCache
from twin_tf.core.workdir import RESULTS, claimed_workdir
from twin_tf.experiments.experiment import ExperimentRunner, Variant
from twin_tf.experiments.shipped_data import SHIPPED, make_prepared
from twin_tf.experiments.subprocess_runner import Steps
from twin_tf.records.format import MANIFEST

quiet_processes()  # for every step; what matters comes as an exception

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
        records: of the test split, whose retrieved behaviours are looked up in the truth.
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
    """A system, and the clusters it is trained on; gamma 0: raw histories."""

    variant: Variant
    gamma: int


def systems(load: Load) -> list[System]:
    """What is compared."""
    found = [System(Variant("twin", f"TWIN, latest {load.window:,}"), 0)]
    found += [System(Variant(f"v2_gamma{gamma}", f"TWIN-V2, gamma {gamma}"), gamma) for gamma in GAMMAS]
    without = ("model.cluster_size_bias=neither",)
    found.append(System(Variant("v2_without_ln", f"TWIN-V2, gamma {CHOSEN}, without ln n", without), CHOSEN))
    whole = (f"model.history_length={load.longest}", "training.batch_records=2")
    return [*found, System(Variant("oracle", f"oracle: TWIN on all {load.longest:,}", whole), 0)]


def study(workdir: Path, load: Load) -> JsonDict:
    """Runs whatever has not been done; returns the content of `report.json`."""
    cache = ResultCache(workdir / RESULTS)
    steps = Steps(cache=cache)
    config = _config(workdir, load)
    settings = [part for name, value in load.simulation.items() for part in ("--set", f"{name}={value}")]
    simulated = SHIPPED["simulated"]._replace(config=config, source=("simulate", *settings))
    prepared = make_prepared(simulated, steps, workdir)
    runner = ExperimentRunner(workdir, config, load.seeds, steps, cache)
    source = ""
    results: dict[str, list[JsonDict]] = {}
    report: JsonDict = {}
    for system in systems(load):
        data = prepared if not system.gamma else _clustered(steps, workdir, config, prepared, source, system.gamma)
        found = runner.run(system.variant, data)
        source = source or found[0]["run"]
        coverage = _coverage(steps, found[0], prepared, workdir / "raw", source, load.records)
        results[system.variant.key] = [{**one, "gamma": system.gamma, "coverage": coverage} for one in found]
        report = _report(workdir, load, results, steps)
        write_lifelong_report(workdir, report)
    return report


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
    narrow_config(overrides).save(path)
    return str(path)


def _clustered(steps: Steps, workdir: Path, config: str, prepared: Path, source: str, gamma: int) -> Path:
    output, name = workdir / f"clustered-{gamma}", f"cluster, gamma {gamma}"
    changed = f"clusters.gamma={gamma}"
    settings = to_plain(load_config(config, [changed]).clusters, defaults=True)
    data = digest_of_files([prepared / MANIFEST, Path(source) / "run.json"])
    made = Provenance(settings, data, code_digest("beam_pipelines.cluster_histories"))
    asked = ["cluster", "--config", config, "--set", changed, "--prepared", str(prepared), "--run", source]
    asked += ["--output", str(output), "--workers", "2"]
    steps.once(name, made, lambda: steps.run(name, *asked), [output], output.name)
    return output


def _coverage(steps: Steps, result: JsonDict, prepared: Path, raw: Path, source: str, records: int) -> JsonDict:
    run = Path(result["run"])
    settings = {"run": run.name, "source": Path(source).name, "records": records}
    data = digest_of_files([prepared / MANIFEST, Path(result["prepared"]) / MANIFEST])
    made = Provenance(settings, data, code_digest("benchmarks.lifelong_coverage"))

    def coverage() -> JsonDict:
        say(f"coverage of {result['label']}")
        command = [sys.executable, "-m", "benchmarks.lifelong_coverage", "--run", str(run)]
        command += ["--prepared", result["prepared"], "--raw", str(prepared), "--logs", str(raw), "--source", source]
        with steps.process([*command, "--records", str(records)], cwd=ROOT, stdout=subprocess.PIPE) as process:
            printed, _ = process.communicate()
        if process.returncode:
            raise ChildProcessError(f"the coverage of {result['label']} failed; its message is above")
        return {"coverage": json.loads(printed)}

    found: JsonDict = steps.once("coverage", made, coverage, stem=f"{run.name}.coverage")["coverage"]
    return found


def _report(workdir: Path, load: Load, results: dict[str, list[JsonDict]], steps: Steps) -> JsonDict:
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
    parser.add_argument("--fresh", action="store_true", help="remove what earlier calls kept in --workdir")
    options = parser.parse_args()
    load = QUICK if options.quick else FULL
    workdir = options.workdir.absolute()
    with claimed_workdir(workdir, "study", fresh=options.fresh):
        study(workdir, load._replace(seeds=tuple(range(1, options.seeds + 1))))
    print(f"{options.workdir}/report.md")


if __name__ == "__main__":
    main()
