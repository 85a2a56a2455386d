"""How fast TWIN trains on long histories, beside the same network fed and built in the usual ways.

    python -m benchmarks.bench_train           # L = 256, 1,000 and 10,000; this trainer at 2,000 too
    python -m benchmarks.bench_train --quick   # shorter, for a look

Simulated logs in which every target sees L behaviours; embeddings 16 wide, 4 heads, 100 retrieved behaviours,
short-term block and relevance statistics on (`benchmarks/narrow.py`); 512 targets a step. Every measurement is a
process of its own that reads records and trains, as `twin-tf train` does. Variants:

* this trainer: 8 records of 64 targets, each history once;
* history repeated: the same network and targets, one target a record, 512 records a step;
* raw MHTA: `model.relevance=raw`, every behaviour projected with its cross features, nothing computed ahead.

| figure | meaning |
|---|---|
| `examples_per_s_L<L>` | targets a second of this trainer |
| `examples_per_s_<variant>_L<L>` | of another variant |
| `peak_rss_mb_<variant>_L<L>` | largest resident memory of the process |
| `speedup_vs_repeated_L1000` | this trainer's targets a second by those of the repeated history |
| `memory_vs_repeated_L1000` | this trainer's memory by that of the repeated history |
| `cost_ratio_L10000_over_L1000` | seconds a target at L = 10,000 by those at L = 1,000 |
| `step_ratio_5M_over_50k_rows` | seconds of a step with 5 million rows in each large table by those with 50 thousand |
| `input_targets_per_s_R<n>_L256` | targets a second that are read and made batches, n targets a record, no network |
| `input_memory_mb_<m>_L1000` | memory that reading takes with `training.shuffle_memory_mb=<m>`, one target a record |
| `floor_ratio_L1000` | seconds of a step by what its products and copies alone would take, see `training_floor` |
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT, Figure, Start, figure, ratio, report, say
from benchmarks.narrow import narrow_config
from twin_tf.training_settings import TrainingConfig

LENGTHS = (256, 1_000, 10_000)
ALSO = 2_000
"""A length at which this trainer alone is measured: others have published figures for it."""
TARGETS_PER_RECORD = 64
BATCH_RECORDS = 8
RUNS = 3
SHUFFLE_MB = TrainingConfig().shuffle_memory_mb
VARIANTS = {"user_major": "this trainer", "repeated": "history repeated", "raw_mhta": "raw MHTA"}

Plain = dict[str, Any]


class Bench:
    """Prepares loads below a directory and measures on them.

    Args:
        directory: for logs and records.
        seconds: of each measurement.
        runs: measurements of each kind.
    """

    def __init__(self, directory: Path, seconds: float, runs: int) -> None:
        self._directory = directory
        self._seconds = seconds
        self._runs = runs

    def prepare(self, length: int, per_record: int) -> Path:
        """Records in which every target sees `length` behaviours."""
        raw, prepared = self._directory / f"raw-{length}", self._directory / f"prepared-{length}-{per_record}"
        if not raw.is_dir():
            users = max(24, 120_000 // length)
            settings: Plain = {
                "users": users,
                "median_history": int(1.9 * length),
                "max_history": int(1.9 * length) + 1,
            }
            settings |= {"spread": 0.01, "targets": users * 8 * TARGETS_PER_RECORD, "items": 24_000}
            settings |= {"explore": 0.2, "target_share": 0.4}
            call(
                "from beam_pipelines.simulate_logs import simulate_logs",
                f"simulate_logs({str(raw)!r}, **{settings!r})",
            )
        if not prepared.is_dir():
            config = self._directory / "config.yaml"
            narrow_config().save(config)
            command = [sys.executable, "-m", "twin_tf.cli", "preprocess", "--config", str(config)]
            command += ["--set", f"schema.targets.per_record={per_record}"]
            command += ["--set", f"schema.history.max_length={max(length, 12_000)}"]
            for log in ("events", "items", "users"):
                command += [f"--{log}", str(raw / f"{log}*.parquet")]
            run([*command, "--output", str(prepared)])
        return prepared

    def measure(self, variant: str, length: int) -> list[Plain]:
        """Several runs of one variant."""
        return [json.loads(run(self._command(variant, length))) for _ in range(self._runs)]

    def read(self, length: int, per_record: int, shuffle_mb: int = SHUFFLE_MB) -> list[Plain]:
        """Several readings without a network, see `input_speed.measure`."""
        command = [sys.executable, "-m", "benchmarks.input_speed", "--length", str(length)]
        command += ["--prepared", str(self.prepare(length, per_record)), "--shuffle-mb", str(shuffle_mb)]
        command += ["--batch-records", str(BATCH_RECORDS * TARGETS_PER_RECORD // per_record)]
        return [json.loads(run([*command, "--seconds", str(self._seconds)])) for _ in range(self._runs)]

    def profile(self, variant: str, length: int) -> Plain:
        """Where the time of a step goes, see `training_steps.profile`."""
        found: Plain = json.loads(run([*self._command(variant, length), "--profile"]))
        return found

    def _command(self, variant: str, length: int) -> list[str]:
        alone = variant == "repeated"
        prepared = self.prepare(length, 1 if alone else TARGETS_PER_RECORD)
        records = BATCH_RECORDS * TARGETS_PER_RECORD if alone else BATCH_RECORDS
        command = [sys.executable, "-m", "benchmarks.training_steps", "--prepared", str(prepared), "--variant", variant]
        command += ["--length", str(length), "--batch-records", str(records), "--seconds", str(self._seconds)]
        return command


def call(*lines: str) -> None:
    """Runs a few lines of Python in a process of its own."""
    run([sys.executable, "-c", "\n".join(lines)])


def run(command: list[str]) -> str:
    """Runs a command in the root of the repository and returns what it printed; its errors go to stderr."""
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


def reading(bench: Bench) -> list[Figure]:
    """How fast records are read, and in how much memory."""
    found = []
    for per_record in (1, TARGETS_PER_RECORD):
        runs = bench.read(256, per_record)
        how = f"{per_record} targets a record, {runs[0]['padding']:.0%} padding"
        speeds = [run["targets_per_s"] for run in runs]
        found.append(figure(f"input_targets_per_s_R{per_record}_L256", "1/s", how, speeds))
    for memory in (64, SHUFFLE_MB):
        sizes = [run["memory_mb"] for run in bench.read(1_000, 1, memory)]
        how = f"above the process before reading, shuffle_memory_mb={memory}"
        found.append(figure(f"input_memory_mb_{memory}_L1000", "MB", how, sizes))
    return found


def growth() -> list[Figure]:
    """A step's time with large tables, with small ones, and their quotient; in a process of its own."""
    lines = "import dataclasses, json; from benchmarks.vocabulary_growth import figures\n"
    lines += "print(json.dumps([dataclasses.asdict(shown) for shown in figures()]))"
    found: list[Plain] = json.loads(run([sys.executable, "-c", lines]).splitlines()[-1])
    return [Figure(**{**shown, "runs": tuple(shown["runs"])}) for shown in found]


def figures_of(measured: dict[tuple[str, int], list[Plain]]) -> list[Figure]:
    """The figures of all measured variants."""
    found = []
    for (variant, length), runs in measured.items():
        label = "" if variant == "user_major" else f"{variant}_"
        how = f"{VARIANTS[variant]}, {runs[0]['targets_per_step']:.0f} targets a step of {runs[0]['step_ms']:.0f} ms"
        name = f"examples_per_s_{label}L{length}"
        found.append(figure(name, "1/s", how, [r["examples_per_s"] for r in runs]))
        memory = f"peak_rss_mb_{variant}_L{length}"
        found.append(figure(memory, "MB", f"{VARIANTS[variant]}, the whole process", [r["peak_rss_mb"] for r in runs]))
    return found


def compared(figures: list[Figure]) -> list[Figure]:
    """The quotients that docs/results.md speaks of."""
    by_name = {shown.name: shown for shown in figures}

    def quotient(name: str, how: str, above: str, below: str) -> list[Figure]:
        if above not in by_name or below not in by_name:
            return []
        return [ratio(name, "x", how, by_name[above], by_name[below])]

    return [
        *quotient(
            "speedup_vs_repeated_L1000",
            "this trainer by history repeated, targets a second",
            "examples_per_s_L1000",
            "examples_per_s_repeated_L1000",
        ),
        *quotient(
            "memory_vs_repeated_L1000",
            "this trainer by history repeated, peak memory",
            "peak_rss_mb_user_major_L1000",
            "peak_rss_mb_repeated_L1000",
        ),
        *quotient(
            "cost_ratio_L10000_over_L1000",
            "seconds a target",
            "examples_per_s_L1000",
            "examples_per_s_L10000",
        ),
    ]


def show_profile(found: Plain) -> None:
    """Prints where the time of a step goes."""
    print(f"\nA step of this trainer at L = 1,000: {found['step_ms']:.1f} ms while profiled; thread time by operation:")
    for name, milliseconds, calls in found["operations"]:
        print(f"  {name:<32}{milliseconds:>8.2f} ms {calls:>7.0f} calls")
    floor = found["floor"]
    print(
        f"Floor: {floor['multiply_adds'] / 1e6:,.0f} million multiply-adds at {floor['multiply_adds_per_s'] / 1e9:.0f} "
        f"billion/s and {floor['gathered_bytes'] / 1e6:.1f} MB gathered at "
        f"{floor['copied_bytes_per_s'] / 1e9:.1f} GB/s: {floor['floor_ms']:.1f} ms. "
        f"The library's top-k of the best 100 of every list, not part of it: {floor['top_k_ms']:.1f} ms.\n"
    )


def main() -> None:
    """Measures everything and writes `benchmarks/out/train.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short run of each, without L = 10,000")
    options = parser.parse_args()
    lengths = LENGTHS[:2] if options.quick else LENGTHS
    start = Start()
    with tempfile.TemporaryDirectory(prefix="twin-bench-") as directory:
        bench = Bench(Path(directory), 3.0 if options.quick else 10.0, 1 if options.quick else RUNS)
        measured = {}
        for length in lengths:
            for variant in VARIANTS:
                say(f"L = {length:,}: {VARIANTS[variant]}")
                measured[variant, length] = bench.measure(variant, length)
        if not options.quick:
            say(f"L = {ALSO:,}: {VARIANTS['user_major']}")
            measured["user_major", ALSO] = bench.measure("user_major", ALSO)
        say("reading alone")
        read = reading(bench)
        say("profile and floor at L = 1,000")
        profiled = bench.profile("user_major", 1_000)
    figures = figures_of(measured)
    figures += compared(figures)
    figures += read
    say("tables of 50 thousand and of 5 million rows")
    figures += growth()
    step = figure("step_ms_L1000", "ms", "this trainer", [r["step_ms"] for r in measured["user_major", 1_000]])
    floor = figure("floor_ms_L1000", "ms", "products and copies alone", [profiled["floor"]["floor_ms"]])
    figures += [step, floor, ratio("floor_ratio_L1000", "x", "step by floor", step, floor)]
    show_profile(profiled)
    load = {
        "config": "simulated",
        "lengths": list(lengths),
        "targets_per_step": BATCH_RECORDS * TARGETS_PER_RECORD,
        "top_k": 100,
        "profile_L1000": profiled,
    }
    report("train", load, figures, start)


if __name__ == "__main__":
    main()
