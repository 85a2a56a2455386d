"""Raw logs of any size for `bench_pipelines`: the same arguments give the same logs.

    python -m benchmarks.pipeline_loads --events=1000000 --output=raw

prints what the load holds, as JSON, and writes `events/*.parquet` (one file per `EVENTS_PER_FILE`, each a slice of 90
days, as daily exports are), `items.parquet` and `schema.yaml`. Users are as active, and items as popular, as a shifted
power law says; the number of users grows with the events, the catalogue does not. Every event is a behaviour; a few
percent of those in the last fifth of the time are targets too. Columns of text that are asked for are drawn evenly, the
worst case for what is gathered by value.
"""

import argparse
import dataclasses
import io
import json
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


@dataclasses.dataclass(frozen=True)
class Load:
    """What a load holds.

    Attributes:
        events: rows of the events log without those of the hot user.
        hot_events: rows of one more user.
        events_per_user: of the others, on average.
        files: of the events log; 0: one per `EVENTS_PER_FILE`.
        text_columns: stored cross features of text more than the three that every load has.
        text_values: distinct values of each of them.
        seed: of the random numbers.
        format: of the events log.
    """

    events: int
    hot_events: int = 0
    events_per_user: int = EVENTS_PER_USER
    files: int = 0
    text_columns: int = 0
    text_values: int = 0
    seed: int = 1
    format: Format = "parquet"

    @property
    def users(self) -> int:
        """Users without the hot one."""
        return max(1, self.events // self.events_per_user)

    def texts(self) -> list[str]:
        """The columns of text."""
        return [f"text_{number}" for number in range(self.text_columns)]

    def schema(self) -> dict[str, Any]:
        """The schema, as a mapping."""
        texts = [{"name": t, "role": "cross", "encoding": {"kind": "vocabulary", "min_count": 2}} for t in self.texts()]
        return {**SCHEMA, "features": [*SCHEMA["features"], *texts]}

    def description(self) -> dict[str, Any]:
        """For the report of the benchmark."""
        return {
            "events": self.events + self.hot_events,
            "users": self.users + bool(self.hot_events),
            "items": ITEMS,
            "days": SECONDS // 86_400,
            "inherent_features": 3,
            "stored_cross_features": 3 + self.text_columns,
            "max_length": SCHEMA["history"]["max_length"],
            **({"text_values": self.text_values} if self.text_columns else {}),
        }


def write_load(directory: Path, load: Load) -> None:
    """Writes a load into a new directory."""
    (directory / "events").mkdir(parents=True)
    for number, table in enumerate(_events(load)):
        _write(table, directory / "events" / f"{number:04d}.{load.format}", load.format)
    pq.write_table(_items(load.seed), directory / "items.parquet")
    schema = yaml.safe_dump({"schema": load.schema()}, sort_keys=False)
    (directory / "schema.yaml").write_text(schema, encoding="utf-8")


def _power_law(count: int) -> npt.NDArray[np.float64]:
    """Cumulated shares of `count` ranks: rank r weighs (r + 20)^-0.9, so nobody owns a tenth of the log."""
    weights = (np.arange(count) + 20.0) ** -0.9
    return np.cumsum(weights) / weights.sum()


def _events(load: Load) -> Iterator[pa.Table]:
    files = load.files or max(1, -(-(load.events + load.hot_events) // EVENTS_PER_FILE))
    activity, popularity, surfaces = _power_law(load.users), _power_law(ITEMS), _power_law(SURFACES)
    names = pa.array([f"surface-{number:02d}" for number in range(SURFACES)])
    texts = pa.array([f"text-{number:07d}" for number in range(load.text_values)])
    for number in range(files):
        rng = np.random.default_rng((load.seed, number))
        ordinary, hot = ((number + 1) * n // files - number * n // files for n in (load.events, load.hot_events))
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
                **{name: texts.take(pa.array(rng.integers(load.text_values, size=rows))) for name in load.texts()},
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
    for field in dataclasses.fields(Load):
        if field.name != "format":
            needed = field.default is dataclasses.MISSING
            parser.add_argument(f"--{field.name}", type=int, required=needed, default=None if needed else field.default)
    parser.add_argument("--format", choices=("parquet", "jsonl", "csv"), default="parquet")
    parser.add_argument("--output", type=Path, required=True)
    options = vars(parser.parse_args())
    output, load = options.pop("output"), Load(**options)
    write_load(output, load)
    print(json.dumps(load.description()))


if __name__ == "__main__":
    main()
