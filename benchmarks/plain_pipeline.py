"""The yardstick of `bench_pipelines`: the job of `build_examples` as a plain Beam pipeline, one dict per event.

    python -m benchmarks.plain_pipeline --events='raw/events/*.parquet' --items=raw/items.parquet --output=plain

What an experienced Beam user writes first: ReadFromParquet, a count per key for the vocabularies, side inputs,
GroupByKey on the user, WriteToTFRecord. It knows the columns of `pipeline_loads` and nothing else. It does less than
`build_examples`: it checks no row, writes no dead letters, no manifest and no checksums, and its files differ from run
to run. The records hold the same, and a test holds the two equal. Where there was a choice it got the faster one: it
serialises with the project's own writer, because TensorFlow's Example would cost it seconds of import alone.
"""

import argparse
import bisect
import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import AsList, AsSingleton, TaggedOutput

from beam_pipelines.io.record_writer import example
from benchmarks.pipeline_loads import SCHEMA
from twin_tf.features.schema import FIRST_KNOWN, UNKNOWN, schema_from_mapping
from twin_tf.records.format import SPLITS, SplitTimes

Row = dict[str, Any]
Counted = tuple[tuple[str, Any], int]

COLUMNS = ["user_id", "item_id", "ts", "clicked", "target", "surface", "dwell", "discount"]
CROSS = ("surface", "dwell", "discount")
_SCHEMA = schema_from_mapping(SCHEMA)
_PACKED = {"time": "<i8"}


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What encoding needs: item -> row, surface -> index, boundaries; and the finished catalogue."""

    rows: dict[int, int]
    surfaces: dict[str, int]
    dwell: list[float]
    items: list[Row]


def find_split(times: list[int]) -> SplitTimes:
    """The moments between the splits, from the times of all targets."""
    times = sorted(times)
    train, valid = _SCHEMA.split.train, _SCHEMA.split.valid
    starts = [times[min(int(share * len(times) + 1e-9), len(times) - 1)] for share in (train, train + valid)]
    return SplitTimes(starts[0], starts[1])


def count_values(event: Row, split: SplitTimes) -> Iterator[Counted]:
    """The event's values, each counted once if it lies in the training window; its item in any case."""
    training = event["ts"] < split.valid_from
    yield ("item", event["item_id"]), int(training)
    if training:
        for name in ("surface", "dwell"):
            if event[name] is not None:
                yield (name, event[name]), 1


def fit(counts: list[Counted], items: list[Row]) -> Fitted:
    """Vocabularies, boundaries and the catalogue."""
    surfaces = sorted(value for (name, value), count in counts if name == "surface" and count >= _minimum("surface"))
    dwell = _quantiles([(value, count) for (name, value), count in counts if name == "dwell"], "dwell")
    seen = {value: count for (name, value), count in counts if name == "item"}
    listed = {item["item_id"]: item for item in items}
    categories: dict[str, int] = {}
    for item in items:
        categories[item["category"]] = categories.get(item["category"], 0) + seen.get(item["item_id"], 0)
    known = sorted(name for name, count in categories.items() if count >= _minimum("category"))
    category_index = {name: index for index, name in enumerate(known, FIRST_KNOWN)}
    prices = _quantiles([(item["price"], seen.get(item["item_id"], 0)) for item in items], "price")
    product_index = {item: index for index, item in enumerate(sorted(listed), FIRST_KNOWN)}
    rows = {item: row for row, item in enumerate(sorted(seen.keys() | listed.keys()), FIRST_KNOWN)}
    catalogue = [
        {
            "row": row,
            "id": item,
            "product": product_index.get(item, UNKNOWN),
            "category": category_index.get(listed[item]["category"], UNKNOWN) if item in listed else UNKNOWN,
            "price": _bucket(prices, listed[item]["price"]) if item in listed else UNKNOWN,
        }
        for item, row in rows.items()
    ]
    return Fitted(rows, {name: index for index, name in enumerate(surfaces, FIRST_KNOWN)}, dwell, catalogue)


def encode(event: Row, fitted: Fitted) -> tuple[int, Row]:
    """A raw event -> (user, encoded event)."""
    boundaries = _SCHEMA.feature("discount").encoding_or_fail.boundaries or ()
    return event["user_id"], {
        "time": event["ts"],
        "item": fitted.rows.get(event["item_id"], UNKNOWN),
        "label": event["clicked"],
        "target": event["target"],
        "surface": fitted.surfaces.get(event["surface"], UNKNOWN),
        "dwell": _bucket(fitted.dwell, event["dwell"]),
        "discount": _bucket(boundaries, event["discount"]),
    }


def build_records(element: tuple[int, Iterable[Row]], split: SplitTimes) -> Iterator[Any]:
    """All events of a user -> its records, tagged by split."""
    user, group = element
    events = sorted(group, key=lambda e: (e["time"], e["item"], e["surface"], e["dwell"], e["discount"]))
    times = [event["time"] for event in events]
    targets = sorted((e for e in events if e["target"]), key=lambda e: (e["time"], e["item"], e["label"]))
    longest, per_record = _SCHEMA.history.max_length, _SCHEMA.targets.per_record
    bounds = (-math.inf, split.valid_from, split.test_from, math.inf)
    for number, name in enumerate(("train", "valid", "test")):
        mine = [target for target in targets if bounds[number] <= target["time"] < bounds[number + 1]]
        for first in range(0, len(mine), per_record):
            part = mine[first : first + per_record]
            ends = [bisect.bisect_left(times, target["time"]) for target in part]
            start = max(0, ends[0] - longest)
            yield TaggedOutput(name, _record(user, events[start : ends[-1]], part, [end - start for end in ends]))
    yield TaggedOutput("histories", _record(user, events[-longest:], [], [], {"history/total": len(events)}))


def _record(
    user: int, history: list[Row], targets: list[Row], ends: list[int], more: Mapping[str, int] | None = None
) -> bytes:
    features: dict[str, int | bytes] = {
        **(more or {}),
        "user/id": user,
        "history/length": len(history),
        "target/length": len(targets),
        "target/history_end": np.array(ends, "<i4").tobytes(),
    }
    for prefix, rows, names in (("history", history, ("time", "item", *CROSS)), ("target", targets, _TARGET)):
        for name in names:
            features[f"{prefix}/{name}"] = np.array([row[name] for row in rows], _PACKED.get(name, "<i4")).tobytes()
    return example(features)


_TARGET = ("time", "item", "label")


def _minimum(feature: str) -> int:
    return _SCHEMA.feature(feature).encoding_or_fail.min_count


def _bucket(boundaries: Sequence[float], value: float | None) -> int:
    return UNKNOWN if value is None else FIRST_KNOWN + bisect.bisect_right(boundaries, value)


def _quantiles(counts: list[tuple[float, int]], feature: str) -> list[float]:
    parts = _SCHEMA.feature(feature).encoding_or_fail.quantiles or 0
    values = sorted(value for value, count in counts if count)
    ends = np.cumsum([count for _, count in sorted(counts) if count])
    ranks = [number * int(ends[-1]) // parts for number in range(1, parts)]
    return sorted({values[place] for place in np.searchsorted(ends, ranks, side="right")})


def run(events: str, items: str, output: str, shards: int = 8, beam_arguments: Sequence[str] = ()) -> None:
    """Runs the pipeline.

    Args:
        events: pattern of the events log, Parquet.
        items: of the items log.
        output: where to write.
        shards: files per split.
        beam_arguments: Beam's own options.
    """
    with beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner", *beam_arguments])) as pipeline:
        rows = pipeline | "ReadEvents" >> beam.io.ReadFromParquet(events, columns=COLUMNS)
        item_rows = pipeline | "ReadItems" >> beam.io.ReadFromParquet(items)
        times = rows | "Targets" >> beam.Filter(lambda e: e["target"]) | "Times" >> beam.Map(lambda e: e["ts"])
        split = AsSingleton(times | "AllTimes" >> beam.combiners.ToList() | "Split" >> beam.Map(find_split))
        counts = rows | "CountValues" >> beam.FlatMap(count_values, split) | "SumCounts" >> beam.CombinePerKey(sum)
        fitted = counts | "AllCounts" >> beam.combiners.ToList() | "TrainingLoop" >> beam.Map(fit, AsList(item_rows))
        _ = (
            fitted
            | "Catalogue" >> beam.FlatMap(lambda found: found.items)
            | "WriteItems"
            >> beam.io.WriteToParquet(
                f"{output}/items",
                pa.schema([("row", pa.int32()), ("id", pa.int64())] + [(f.name, pa.int32()) for f in _SCHEMA.inherent]),
                num_shards=1,
            )
        )
        records = (
            rows
            | "Encode" >> beam.Map(encode, AsSingleton(fitted))
            | "ByUser" >> beam.GroupByKey()
            | "Records" >> beam.FlatMap(build_records, split).with_outputs(*SPLITS)
        )
        for name in SPLITS:
            _ = records[name] | f"Write[{name}]" >> beam.io.WriteToTFRecord(
                f"{output}/{name}", file_name_suffix=".tfrecord", num_shards=shards
            )


def main() -> None:
    """The command line; other options go to Beam."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plain_pipeline", description="The plain pipeline.")
    for name in ("events", "items", "output"):
        parser.add_argument(f"--{name}", required=True)
    options, beam_arguments = parser.parse_known_args()
    run(options.events, options.items, options.output, beam_arguments=beam_arguments)


if __name__ == "__main__":
    from benchmarks import plain_pipeline  # workers find the functions by this name, not in __main__

    plain_pipeline.main()
