"""Raw logs of any size for `bench_pipelines`: the same arguments give the same logs.

    python -m benchmarks.pipeline_loads --events=1000000 --output=raw

writes `events/*.parquet` (one file per `EVENTS_PER_FILE`, each a slice of 90 days, as daily exports are),
`items.parquet` and `schema.yaml`. Users are as active, and items as popular, as a shifted power law says; the number of
users grows with the events, the catalogue does not. Every event is a behaviour; a few percent of those in the last
fifth of the time are targets too.
"""

import argparse
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import yaml

Format = Literal["parquet", "jsonl", "csv"]

EVENTS_PER_FILE = 250_000
EVENTS_PER_USER = 200
ITEMS = 200_000
SURFACES = 60
CATEGORIES = 400
TARGET_SHARE = 0.05
EMPTY_SHARE = 0.01
FIRST_SECOND = 1_704_067_200  # 2024-01-01
SECONDS = 90 * 86_400
HOT_USER = 7

SCHEMA: dict[str, Any] = {
    "name": "bench_pipelines",
    "events": {
        "user": {"column": "user_id"},
        "item": {"column": "item_id"},
        "time": {"column": "ts"},
        "label": {"column": "clicked"},
    },
    "items": {"column": "item_id"},
    "history": {"max_length": 10_000},
    "targets": {"where": {"target": [1]}, "per_record": 64},
    "split": {"train": 0.8, "valid": 0.1},
    "features": [
        {
            "name": "product",
            "role": "inherent",
            "column": "item_id",
            "type": "int",
            "encoding": {"kind": "vocabulary", "source": "items"},
        },
        {"name": "category", "role": "inherent", "encoding": {"kind": "vocabulary", "min_count": 5}},
        {"name": "price", "role": "inherent", "encoding": {"kind": "numeric", "quantiles": 20}},
        {"name": "surface", "role": "cross", "encoding": {"kind": "vocabulary", "min_count": 10}},
        {"name": "dwell", "role": "cross", "encoding": {"kind": "numeric", "quantiles": 16}},
        {"name": "discount", "role": "cross", "encoding": {"kind": "numeric", "boundaries": [1, 5, 10, 25, 50]}},
    ],
}


def write_load(directory: Path, events: int, hot_events: int = 0, seed: int = 1, format_: Format = "parquet") -> None:
    """Writes a load.

    Args:
        directory: where to; created.
        events: rows of the events log without those of the hot user.
        hot_events: rows of one more user.
        seed: of the random numbers.
        format_: of the events log.
    """
    (directory / "events").mkdir(parents=True)
    for number, table in enumerate(_events(events, hot_events, seed)):
        _write(table, directory / "events" / f"{number:04d}.{format_}", format_)
    pq.write_table(_items(seed), directory / "items.parquet")
    (directory / "schema.yaml").write_text(yaml.safe_dump({"schema": SCHEMA}, sort_keys=False), encoding="utf-8")


def description(events: int, hot_events: int = 0) -> dict[str, Any]:
    """What a load holds, for the report of the benchmark."""
    return {
        "events": events + hot_events,
        "users": _users(events) + bool(hot_events),
        "items": ITEMS,
        "days": SECONDS // 86_400,
        "inherent_features": 3,
        "stored_cross_features": 3,
        "max_length": SCHEMA["history"]["max_length"],
    }


def _users(events: int) -> int:
    return max(1, events // EVENTS_PER_USER)


def _power_law(count: int) -> npt.NDArray[np.float64]:
    """Cumulated shares of `count` ranks: rank r weighs (r + 20)^-0.9, so nobody owns a tenth of the log."""
    weights = (np.arange(count) + 20.0) ** -0.9
    return np.cumsum(weights) / weights.sum()


def _events(events: int, hot_events: int, seed: int) -> Iterator[pa.Table]:
    files = max(1, -(-(events + hot_events) // EVENTS_PER_FILE))
    activity, popularity, surfaces = _power_law(_users(events)), _power_law(ITEMS), _power_law(SURFACES)
    names = pa.array([f"surface-{number:02d}" for number in range(SURFACES)])
    for number in range(files):
        rng = np.random.default_rng((seed, number))
        ordinary, hot = ((number + 1) * n // files - number * n // files for n in (events, hot_events))
        rows = ordinary + hot
        ranks = np.searchsorted(activity, rng.random(ordinary))
        users = (ranks + 1) * 2_654_435_761 % (1 << 31)  # an odd factor: distinct ids, in no order
        users = rng.permutation(np.concatenate([users, np.full(hot, HOT_USER)]))
        timestamp = np.sort((number + rng.random(rows)) / files)
        dwell = np.round(np.minimum(rng.lognormal(2.0, 1.2, rows), 600.0), 2)
        yield pa.table(
            {
                "user_id": users,
                "item_id": 1 + np.searchsorted(popularity, rng.random(rows)),
                "ts": FIRST_SECOND + (timestamp * SECONDS).astype(np.int64),
                "clicked": (rng.random(rows) < 0.3).astype(np.int64),
                "target": ((timestamp >= 0.8) & (rng.random(rows) < TARGET_SHARE)).astype(np.int64),
                "surface": names.take(
                    pa.array(np.searchsorted(surfaces, rng.random(rows)), mask=rng.random(rows) < EMPTY_SHARE)
                ),
                "dwell": pa.array(dwell, mask=rng.random(rows) < EMPTY_SHARE),
                "discount": np.round(rng.random(rows) ** 3 * 100, 1),
            }
        )


def _items(seed: int) -> pa.Table:
    rng = np.random.default_rng((seed, 1 << 20))
    categories = np.searchsorted(_power_law(CATEGORIES), rng.random(ITEMS))
    return pa.table(
        {
            "item_id": np.arange(1, ITEMS + 1),
            "category": pa.array([f"category-{number:03d}" for number in categories]),
            "price": np.round(rng.lognormal(2.5, 0.9, ITEMS), 2),
        }
    )


def _write(table: pa.Table, path: Path, format_: Format) -> None:
    if format_ == "parquet":
        pq.write_table(table, path, row_group_size=1 << 17)
    elif format_ == "csv":
        pa.csv.write_csv(table, path)
    else:
        path.write_text(_json_lines(table), encoding="utf-8")


def _json_lines(table: pa.Table) -> str:
    pieces: list[Any] = []
    for name in table.column_names:
        values = table[name].combine_chunks().cast(pa.string())
        quoted = pc.binary_join_element_wise('"', values, '"', "") if table[name].type == pa.string() else values
        pieces += [f'{"," if pieces else "{"}"{name}":', quoted]
    lines = pc.binary_join_element_wise(*pieces, "}\n", "", null_handling="replace", null_replacement="null")
    text = io.StringIO()
    text.writelines(lines.to_pylist())
    return text.getvalue()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline_loads", description="Writes raw logs.")
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--hot_events", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--format", choices=("parquet", "jsonl", "csv"), default="parquet")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    write_load(options.output, options.events, options.hot_events, options.seed, options.format)


if __name__ == "__main__":
    main()
