"""How fast and how small `build_examples` is, beside a plain Beam pipeline that does the same job.

    python -m benchmarks.bench_pipelines                 # all of it on 2 cores: an hour
    python -m benchmarks.bench_pipelines --only=speed    # 1,000,000 and 10,000,000 events: 8 minutes
    python -m benchmarks.bench_pipelines --quick         # a fiftieth of the events
    python -m benchmarks.bench_pipelines --scale=1000    # a thousandth

Every run is the whole command in a fresh process, interpreter start, planning and writing included. Figures:

| name | meaning |
|---|---|
| `events_per_s` | raw events read a second of wall time, Parquet, with 1 or one worker process a core, what is faster |
| `events_per_s_per_core` | the same by the cores of the machine |
| `events_per_s_<n>_workers` | with n worker processes |
| `events_per_s_jsonl`, `events_per_s_csv` | `events_per_s` from the other formats |
| `plain_events_per_s` | the plain pipeline on the same files, by the same rule |
| `speedup_vs_plain` | `events_per_s` by `plain_events_per_s` |
| `bytes_per_event` | bytes of all record files by the behaviours stored in them |
| `bytes_per_raw_event` | bytes of all record files by the raw events |
| `peak_rss_mb` | most memory that all processes of a run held together |
| `time_ratio_10x`, `rss_ratio_10x` | 10 times the events: how many times the time and the memory |
| `seconds_fixed` | time of a run with next to no events: start, planning, catalogue |
| `time_ratio_10x_without_fixed` | the same with that taken off both times, since it flatters |
| `fit_seconds_<n>_items`, `fit_cpu_seconds_<n>_items` | whole command with so many items and 200,000 events |
| `fit_rss_mb_<n>_items` | its largest process; `1e6_text`: with text ids |
| `hot_user_rss_mb` | largest process of a run with one user of 1,000,000 events beside 10,000 ordinary users |

Those of many shards and of extreme logs (`--only=shards`, `--only=sizes`) are in `benchmarks/pipeline_sizes.py`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.fit_loads import measure_fits
from benchmarks.harness import (
    ROOT,
    RUNS,
    Figure,
    Run,
    Start,
    cores,
    figure,
    measure,
    of,
    ratio,
    report,
    say,
)
from benchmarks.pipeline_sizes import measure_shards, measure_sizes

EVENTS = 1_000_000
HOT_EVENTS = 1_000_000
BESIDE_HOT_EVENTS = 2_000_000  # 10,000 ordinary users
TINY_EVENTS = 1_000
QUICK = 50
PARTS = ("speed", "shards", "sizes", "items")

Described = dict[str, Any]


class Bench:
    """Makes loads and measures commands on them, below one directory.

    Args:
        directory: where loads and outputs lie.
        runs: measurements of each kind.
    """

    def __init__(self, directory: Path, runs: int) -> None:
        self._directory = directory
        self._runs = runs

    def load(self, name: str, **numbers: int | str) -> tuple[Path, Described]:
        """Writes a load (`pipeline_loads.Load`) in a process of its own; returns its directory and what it holds."""
        directory = self._directory / name
        arguments = [f"--{option}={value}" for option, value in numbers.items()]
        say(f"load {name}: {' '.join(arguments)}")
        command = [sys.executable, "-m", "benchmarks.pipeline_loads", *arguments, f"--output={directory}"]
        said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        return directory, json.loads(said.stdout)

    def build_examples(self, load: Path, workers: int, shards: int = 8) -> tuple[list[Run], Mapping[str, Any]]:
        """Measures `build_examples`; returns the runs and the last manifest."""
        output = self._directory / "prepared"
        command = [
            *(sys.executable, "-m", "beam_pipelines.build_examples", f"--schema={load}/schema.yaml"),
            *(f"--events={load}/events/*", f"--items={load}/items.parquet", f"--output={output}"),
            *(f"--shards={shards}", *workers_arguments(workers)),
        ]
        what = f"build_examples on {load.name}, {shards} shard(s), {workers} worker process(es)"
        runs = self._measure(what, command, output)
        return runs, json.loads((output / "manifest.json").read_text(encoding="utf-8"))

    def shuffle(self, load: Path, shards: int) -> Mapping[str, Any]:
        """What `shuffle_bytes` says of a load."""
        command = [sys.executable, "-m", "benchmarks.shuffle_bytes", f"--load={load}", f"--shards={shards}"]
        found: Mapping[str, Any] = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
        return found

    def plain(self, load: Path, workers: int) -> list[Run]:
        """Measures the plain pipeline."""
        output = self._directory / "plain"
        command = [
            *(sys.executable, "-m", "benchmarks.plain_pipeline", f"--events={load}/events/*.parquet"),
            *(f"--items={load}/items.parquet", f"--output={output}", *_beam_workers(workers)),
        ]
        return self._measure(f"plain pipeline on {load.name}, {workers} worker process(es)", command, output)

    def check_same_records(self, manifest: Mapping[str, Any]) -> None:
        """Fails unless the last run of the plain pipeline wrote as many records of each split as the manifest says."""
        for split, shards in manifest["splits"].items():
            wanted = sum(shard["records"] for shard in shards)
            found = sum(map(_records_in, (self._directory / "plain").glob(f"{split}-*.tfrecord")))
            if found != wanted:
                raise RuntimeError(f"{split}: the plain pipeline wrote {found} records, build_examples {wanted}")

    def _measure(self, what: str, command: Sequence[str], output: Path) -> list[Run]:
        runs = measure(command, output, self._runs)
        say(f"{what}: " + ", ".join(f"{r.seconds:.1f} s {r.tree_mb:.0f} MB" for r in runs))
        return runs


def workers_arguments(workers: int) -> list[str]:
    """The options for so many worker processes."""
    return [f"--workers={workers}"]


def _records_in(path: Path) -> int:
    found = place = 0
    with path.open("rb") as stream:
        while header := stream.read(8):
            found += 1
            place += 16 + int.from_bytes(header, "little")  # the record, its length and both checksums
            stream.seek(place)
    return found


def _beam_workers(workers: int) -> list[str]:
    if workers == 1:
        return []
    return [f"--direct_num_workers={workers}", "--direct_running_mode=multi_processing"]


def measure_speed(bench: Bench, events: int, hot_events: int, beside_hot: int) -> tuple[Described, list[Figure]]:
    """Speed, size and memory beside the plain pipeline; returns the description of the loads and the figures."""
    once, described = bench.load("once", events=events)
    tried = {workers: bench.build_examples(once, workers) for workers in sorted({1, cores()})}
    workers = _fastest({workers: runs for workers, (runs, _) in tried.items()})
    runs, manifest = tried[workers]
    option = " ".join(workers_arguments(workers))
    how = f"{events:,} events, whole command, {workers} worker process(es) ({option}), the faster of {sorted(tried)}"
    speed = figure("events_per_s", "events/s", f"Parquet, {how}", _rates(runs, events))
    seconds = figure("seconds", "s", how, of(runs, lambda r: r.seconds))
    memory = figure("peak_rss_mb", "MB", f"all processes together, {how}", of(runs, lambda r: r.tree_mb))
    figures = [speed, Figure("events_per_s_per_core", speed.value / cores(), "events/s", "events_per_s / cores")]
    for count, (found, _) in tried.items():
        how_count = f"Parquet, {events:,} events, {' '.join(workers_arguments(count))}"
        figures.append(figure(f"events_per_s_{count}_workers", "events/s", how_count, _rates(found, events)))
    for format_ in ("jsonl", "csv"):
        load, _ = bench.load(f"once_{format_}", events=events, format=format_)
        found, _ = bench.build_examples(load, workers)
        how_format = f"{events:,} events, whole command, {workers} worker process(es), the number chosen for Parquet"
        figures.append(figure(f"events_per_s_{format_}", "events/s", how_format, _rates(found, events)))

    plain = {count: bench.plain(once, count) for count in sorted({1, cores()})}
    fastest = _fastest(plain)
    others = ", ".join(f"{statistics.median(_rates(found, events)):,.0f} with {n}" for n, found in plain.items())
    how_plain = f"benchmarks/plain_pipeline.py, the same files, the fastest number of worker processes: {others}"
    slow = figure("plain_events_per_s", "events/s", how_plain, _rates(plain[fastest], events))
    figures += [slow, ratio("speedup_vs_plain", "times", "events_per_s / plain_events_per_s", speed, slow)]

    bench.check_same_records(manifest)

    shards = [shard for split in manifest["splits"].values() for shard in split]
    size, stored = sum(shard["bytes"] for shard in shards), sum(shard["events"] for shard in shards)
    figures += [
        Figure("bytes_per_event", round(size / stored, 3), "bytes", f"{size:,} bytes / {stored:,} stored behaviours"),
        Figure("bytes_per_raw_event", round(size / events, 3), "bytes", f"{size:,} bytes / {events:,} raw events"),
        memory,
    ]

    tiny, _ = bench.load("tiny", events=TINY_EVENTS)
    smallest, _ = bench.build_examples(tiny, workers)
    how_fixed = f"{TINY_EVENTS:,} events over the same catalogue, whole command, {workers} worker process(es)"
    fixed = figure("seconds_fixed", "s", how_fixed, of(smallest, lambda r: r.seconds))
    tenfold, described_tenfold = bench.load("tenfold", events=events * 10)
    ten, _ = bench.build_examples(tenfold, workers)
    how_ten = f"{events * 10:,} events against {events:,}, whole commands, {workers} worker process(es)"
    ten_seconds = figure("seconds", "s", how_ten, of(ten, lambda r: r.seconds))
    ten_memory = figure("peak_rss_mb_10x", "MB", how_ten, of(ten, lambda r: r.tree_mb))
    figures += [
        ratio("time_ratio_10x", "times", how_ten, ten_seconds, seconds),
        fixed,
        ratio("rss_ratio_10x", "times", how_ten, ten_memory, memory),
        figure("events_per_s_10x", "events/s", how_ten, _rates(ten, events * 10)),
        ten_memory,
    ]

    if seconds.value > 1.5 * fixed.value:  # with less between them the quotient would be noise
        quotient = (ten_seconds.value - fixed.value) / (seconds.value - fixed.value)
        how_rest = f"{ten_seconds.value:.1f} s and {seconds.value:.1f} s, seconds_fixed taken off both"
        figures.append(Figure("time_ratio_10x_without_fixed", float(f"{quotient:.4g}"), "times", how_rest))

    hot, described_hot = bench.load("hot", events=beside_hot, hot_events=hot_events)
    found, _ = bench.build_examples(hot, workers)
    how_hot = (
        f"largest process; one user with {hot_events:,} events beside {described_hot['users'] - 1:,} users with "
        f"{beside_hot:,}; {workers} worker process(es)"
    )
    figures.append(figure("hot_user_rss_mb", "MB", how_hot, of(found, lambda r: r.process_mb)))
    return {"once": described, "tenfold": described_tenfold, "hot_user": described_hot}, figures


def _rates(runs: Sequence[Run], events: int) -> list[float]:
    return of(runs, lambda r: events / r.seconds)


def _fastest(tried: Mapping[int, Sequence[Run]]) -> int:
    return min(tried, key=lambda workers: statistics.median(of(tried[workers], lambda r: r.seconds)))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_pipelines", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help=f"the same as --scale={QUICK}")
    parser.add_argument("--scale", type=int, default=1, help="loads smaller by this factor (default: %(default)s)")
    parser.add_argument("--only", choices=PARTS, help="a part of the figures; they go into a file of their own")
    parser.add_argument("--runs", type=int, default=RUNS, help="measurements of each kind (default: %(default)s)")
    parser.add_argument("--workdir", type=Path, help="where loads and outputs lie while it runs (default: temporary)")
    options = parser.parse_args()
    scale = QUICK if options.quick else options.scale
    start = Start()
    loads: Described = {}
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(dir=options.workdir) as directory:
        bench = Bench(Path(directory), options.runs)
        for part in [options.only] if options.only else PARTS:
            if part == "speed":
                sizes = (EVENTS // scale, HOT_EVENTS // scale, BESIDE_HOT_EVENTS // scale)
                described, found = measure_speed(bench, *sizes)
            elif part == "items":
                described, found = {}, measure_fits(Path(directory), options.runs, scale)
            else:
                described, found = {"shards": measure_shards, "sizes": measure_sizes}[part](bench, scale)
            loads |= described
            figures += found
    name = "_".join(["pipelines", *([options.only] if options.only else []), *(["quick"] if scale > 1 else [])])
    report(name, {**loads, "runs": options.runs, "scale": scale}, figures, start)


if __name__ == "__main__":
    main()
