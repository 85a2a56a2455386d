"""The rows of `bench_pipelines` about size: thousands of shards, and logs that are extreme in one way each.

| name | meaning |
|---|---|
| `shuffle_bytes_per_event_<n>_shards` | bytes of an event between the reading and the writing step |
| `bytes_ratio_2000_shards` | that with 2,000 shards by that with 8 |
| `cpu_seconds_<n>_shards` | a whole run: CPU time of all its processes |
| `time_ratio_2000_shards` | wall time of a whole run with 2,000 shards by that with 8 |
| `cpu_ratio_2000_shards` | the same of CPU time, which other work on the machine changes less |
| `rss_mb_<n>_shards` | most memory that all processes of a run held together |
| `seconds_<log>`, `rss_mb_<log>` | an extreme log: wall time, and the largest process |
| `bytes_an_event_<log>` | of that memory, less that of a run with next to no events, by all events of the log |

The log of the shards has a column of text with 50,000 values, and 5,000 events a shard at 2,000. The extreme logs:

| log | what | shards |
|---|---|---|
| `million_users` | a million users, two events each, in one shard | 1 |
| `user_of_1e7` | one user of 10^7 events beside 1,000 ordinary ones | 8 |
| `ten_texts` | ten columns of text with 10^5 values each, 10^6 events | 8 |
| `daily_files` | 365 files of JSON Lines, 10 MB each | 32 |

Memory on one worker is that of the local runner, which holds all that is shuffled besides the shard at work.
"""

import dataclasses
from typing import Any, Protocol

from benchmarks.harness import Figure, Run, figure, of, ratio

FEW, MANY = 8, 2_000
WIDE = {"events": 10_000_000, "text_columns": 1, "text_values": 50_000}
EVENTS_IN_10_MB = 78_000  # as JSON Lines
_MB = 1 << 20


@dataclasses.dataclass(frozen=True)
class Extreme:
    """An extreme log.

    Attributes:
        what: of it is extreme, in words.
        load: the numbers of `pipeline_loads.Load` that `scale` divides.
        fixed: those that it does not.
        shards: of the run.
    """

    what: str
    load: dict[str, int]
    fixed: dict[str, int | str]
    shards: int


EXTREMES = {
    "million_users": Extreme(
        "1,000,000 users with 2 events each in one shard", {"events": 2_000_000}, {"events_per_user": 2}, 1
    ),
    "user_of_1e7": Extreme("one user of 10,000,000 events", {"events": 200_000, "hot_events": 10_000_000}, {}, 8),
    "ten_texts": Extreme(
        "ten columns of 100,000 texts", {"events": 1_000_000, "text_values": 100_000}, {"text_columns": 10}, 8
    ),
    "daily_files": Extreme(
        "365 files of JSON Lines, 10 MB each",
        {"events": 365 * EVENTS_IN_10_MB},
        {"files": 365, "format": "jsonl"},
        32,
    ),
}


class Loads(Protocol):
    """What `bench_pipelines.Bench` offers."""

    def load(self, name: str, **numbers: Any) -> Any:
        """Writes a load."""

    def build_examples(self, load: Any, workers: int, shards: int = FEW) -> Any:
        """Measures a run."""

    def shuffle(self, load: Any, shards: int) -> Any:
        """Measures the reading step."""


def measure_shards(bench: Loads, scale: int) -> tuple[dict[str, Any], list[Figure]]:
    """The rows of 2,000 shards; a smaller load has fewer shards too."""
    numbers = {**WIDE, "events": WIDE["events"] // scale}
    load, described = bench.load("wide", **numbers)
    shown: list[Figure] = []
    seconds, cpu, size = [], [], []
    for shards, cut in ((FEW, FEW), (MANY, max(FEW, MANY // scale))):
        found = bench.shuffle(load, cut)
        runs: list[Run]
        runs, _ = bench.build_examples(load, 1, cut)
        how = f"{numbers['events']:,} events, {numbers['text_values']:,} texts, {cut} shards, 1 worker process"
        each = found["bytes"] / found["events"]
        size.append(Figure(f"shuffle_bytes_per_event_{shards}_shards", round(each, 2), "bytes", how))
        seconds.append(figure(f"seconds_{shards}_shards", "s", how, of(runs, lambda r: r.seconds)))
        cpu.append(figure(f"cpu_seconds_{shards}_shards", "s", how, of(runs, lambda r: r.cpu_seconds)))
        shown += [size[-1], seconds[-1], cpu[-1]]
        shown.append(figure(f"rss_mb_{shards}_shards", "MB", how, of(runs, lambda r: r.tree_mb)))
    how = f"{MANY:,} shards against {FEW}, the same {numbers['events']:,} events"
    for name, (few, many) in (("bytes", size), ("time", seconds), ("cpu", cpu)):
        shown.append(ratio(f"{name}_ratio_{MANY}_shards", "times", how, many, few))
    return {"wide": described}, shown


def measure_sizes(bench: Loads, scale: int) -> tuple[dict[str, Any], list[Figure]]:
    """The rows of extreme logs."""
    tiny, _ = bench.load("next_to_nothing", events=1_000)
    runs, _ = bench.build_examples(tiny, 1)
    idle = figure("rss_mb_next_to_nothing", "MB", "1,000 events", of(runs, lambda r: r.process_mb))
    described, shown = {}, [idle]
    for name, extreme in EXTREMES.items():
        smaller = {key: max(1, value // scale) for key, value in extreme.load.items()}
        load, described[name] = bench.load(name, **smaller, **extreme.fixed)
        runs, _ = bench.build_examples(load, 1, extreme.shards)
        how = f"{extreme.what}, {extreme.shards} shard(s), 1 worker process" + (f", 1/{scale} of it" * (scale > 1))
        shown.append(figure(f"seconds_{name}", "s", how, of(runs, lambda r: r.seconds)))
        memory = figure(f"rss_mb_{name}", "MB", how, of(runs, lambda r: r.process_mb))
        each = (memory.value - idle.value) * _MB / described[name]["events"]
        how_each = f"rss_mb_{name} less rss_mb_next_to_nothing, by all events"
        shown += [memory, Figure(f"bytes_an_event_{name}", round(each), "bytes", how_each)]
    return described, shown
