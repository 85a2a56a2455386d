"""The content of `report.json`, from the figures of all shards."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from beam_pipelines.examples.catalogue import Cut
from beam_pipelines.examples.report_warnings import warnings_of
from beam_pipelines.examples.statistics import DataStatistics, SplitStatistics
from beam_pipelines.examples.value_counts import Histogram
from beam_pipelines.raw_logs.log_report import LogReport
from beam_pipelines.raw_logs.raw_columns import log_columns
from twin_tf.features.schema import FeatureSchema
from twin_tf.records.format import TARGET_SPLITS, Manifest


def report_content(
    schema: FeatureSchema,
    manifest: Manifest,
    statistics: DataStatistics,
    logs: Mapping[str, LogReport],
    items_unlisted: int | None,
    cut: Mapping[str, Cut],
) -> dict[str, Any]:
    """The content of `report.json`; `beam_pipelines.data_report.report` says what each part means and draws it."""
    counts = dataclasses.asdict(manifest.counts)
    logs = dict(sorted(logs.items()))
    stored = [f.name for f in (*schema.inherent, *schema.stored_cross, *schema.stored_target, *schema.user)]
    return {
        "schema": schema.name,
        "fingerprint": schema.fingerprint,
        "unit": schema.events.time.unit,
        "counts": counts,
        "split": dataclasses.asdict(manifest.split),
        "history_lengths": _lengths(statistics.lengths, schema.history.max_length),
        "days": _days(statistics),
        "unknown": {
            split: {name: _share(*statistics.unknown.get((split, name), (0, 0))) for name in stored}
            for split in TARGET_SPLITS
        },
        "untrained": {split: _untrained(schema, statistics, split) for split in TARGET_SPLITS},
        "splits": {split: _split(statistics.splits.get(split, SplitStatistics())) for split in TARGET_SPLITS},
        "coverage": {
            log: {
                column: _share(report.filled.get(column, 0), report.read - report.dead) or 0.0
                for column in log_columns(schema, log).types  # type: ignore[arg-type]
            }
            for log, report in logs.items()
        },
        **({"cut": {name: dataclasses.asdict(found) for name, found in cut.items()}} if cut else {}),
        "bytes": {name: sum(shard.bytes for shard in shards) for name, shards in manifest.splits.items()},
        "events_stored": {name: sum(shard.events for shard in shards) for name, shards in manifest.splits.items()},
        "warnings": warnings_of(schema, manifest, statistics, logs, items_unlisted or 0, cut),
    }


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None


def _lengths(lengths: Histogram, max_length: int) -> dict[str, Any]:
    users = lengths.total
    return {
        "users": users,
        "mean": round(float((lengths.keys * lengths.counts).sum() / users), 3) if users else 0.0,
        **_ranks(lengths, {"median": 0.5, "p90": 0.9, "p99": 0.99}),
        "longest": int(lengths.keys[-1]) if users else 0,
        "cut": int(lengths.counts[lengths.keys > max_length].sum()),
        "max_length": max_length,
        "bins": _bins(lengths),
    }


def _ranks(lengths: Histogram, shares: Mapping[str, float]) -> dict[str, int]:
    total = lengths.total
    return {name: lengths.at_rank(int(share * (total - 1))) if total else 0 for name, share in shares.items()}


def _bins(lengths: Histogram) -> list[list[int]]:
    """(low, high, how many with low <= length < high), powers of two after [0, 1)."""
    bins, low = [], 0
    while lengths.total and low <= lengths.keys[-1]:
        high = max(1, 2 * low)
        inside = (lengths.keys >= low) & (lengths.keys < high)
        bins.append([low, high, int(lengths.counts[inside].sum())])
        low = high
    return bins


def _split(found: SplitStatistics) -> dict[str, Any]:
    plain = {field.name: getattr(found, field.name) for field in dataclasses.fields(found) if field.name != "lengths"}
    return {**plain, **_ranks(found.lengths, {"median": 0.5, "p90": 0.9}), "bins": _bins(found.lengths)}


def _untrained(schema: FeatureSchema, statistics: DataStatistics, split: str) -> dict[str, float | None]:
    found = {}
    for feature in (*schema.inherent, *schema.user):
        values = statistics.untrained_values(split, feature)
        if values is not None:
            found[feature.name] = _share(values, statistics.unknown.get((split, feature.name), (0, 0))[1])
    return found


def _days(statistics: DataStatistics) -> list[dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for name in ("behaviours", "targets", "clicks"):
        histogram: Histogram = getattr(statistics, name)
        for day, count in zip(histogram.keys.tolist(), histogram.counts.tolist(), strict=True):
            day <<= histogram.level
            found.setdefault(day, {"behaviours": 0, "targets": 0, "clicks": 0})[name] += count
    return [{"day": str(np.datetime64(day, "D")), **found[day]} for day in sorted(found)]
