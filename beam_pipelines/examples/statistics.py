"""Figures for the data report, gathered where the records are made: lengths, days, unknown values. They merge."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_pipelines.examples.catalogue import Cut
from beam_pipelines.examples.event_batches import BEHAVIOUR, LABEL, TARGET
from beam_pipelines.examples.user_histories import earlier_behaviours
from beam_pipelines.examples.value_counts import Histogram
from beam_pipelines.raw_logs.log_report import LogReport
from beam_pipelines.raw_logs.raw_columns import log_columns
from twin_tf.features.schema import UNKNOWN, FeatureSchema
from twin_tf.records.format import SPLITS, Manifest, SplitTimes

_DAY = 86_400
_DEAD_SHARE_TO_MENTION = 0.0005
_UNLISTED_TO_MENTION = 0.01
_CUT_TO_MENTION = 0.01
_DRIFT_TO_MENTION = 0.2
_RATE_TO_MENTION = 2.0
_TARGETS_TO_COMPARE = 1000

Ints = npt.NDArray[np.int64]


def _nothing() -> Histogram:
    return Histogram(np.zeros(0, np.int64), np.zeros(0, np.int64))


@dataclasses.dataclass
class DataStatistics:
    """Figures of some users.

    Attributes:
        lengths: behaviours of each user ever, before they are cut to `history.max_length`.
        behaviours: their days, counted from 1970 in local time.
        targets: days of the targets.
        clicks: days of the clicked targets.
        unknown: (split, feature) -> values that are unknown, values.
    """

    lengths: Histogram = dataclasses.field(default_factory=_nothing)
    behaviours: Histogram = dataclasses.field(default_factory=_nothing)
    targets: Histogram = dataclasses.field(default_factory=_nothing)
    clicks: Histogram = dataclasses.field(default_factory=_nothing)
    unknown: dict[tuple[str, str], tuple[int, int]] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(
        cls,
        schema: FeatureSchema,
        events: Mapping[str, npt.NDArray[Any]],
        user_features: Mapping[str, npt.NDArray[Any]],
        unknown_items: npt.NDArray[np.uint8],
        split: SplitTimes,
        new: npt.NDArray[np.bool_],
    ) -> "DataStatistics":
        """Looks at the events of some users.

        Args:
            schema: the schema.
            events: as `user_histories.build_records` takes them.
            user_features: feature -> the index of each event's user, `(events,)`.
            unknown_items: `(items, bytes)` by row: which inherent features are unknown, packed bits.
            split: the moments between the splits.
            new: `(events,)` False for events of an earlier run: they count for the lengths alone.
        """
        flags, times = events["flags"], events["time"]
        behaviour, target = (flags & BEHAVIOUR) != 0, (flags & TARGET) != 0
        days = (times // schema.events.time.per_second + round(3600 * schema.events.time.utc_offset_hours)) // _DAY
        users = events["user"]
        everyone, owner = np.unique(users, return_inverse=True)
        lengths = np.bincount(owner[behaviour], minlength=len(everyone)) + earlier_behaviours(events, everyone)
        found = cls(
            Histogram.of(lengths),
            Histogram.of(days[behaviour & new]),
            Histogram.of(days[target]),
            Histogram.of(days[target & ((flags & LABEL) != 0)]),
        )
        number = split.numbers(times)
        for place, name in enumerate(SPLITS[:3]):
            mine = number == place
            targets = mine & target
            bits = np.unpackbits(unknown_items[events["item"][targets]], axis=1, count=len(schema.inherent))
            for feature, column in zip(schema.inherent, bits.T, strict=True):
                found.unknown[name, feature.name] = (int(column.sum()), len(column))
            for feature in schema.stored_cross:
                found._count(name, feature.name, events[feature.name][mine & behaviour & new])
            for feature in schema.stored_context:
                found._count(name, feature.name, events[feature.name][targets])
            for feature in schema.user:
                found._count(name, feature.name, user_features[feature.name][targets])
        return found

    def _count(self, split: str, feature: str, values: npt.NDArray[Any]) -> None:
        self.unknown[split, feature] = (int((values == UNKNOWN).sum()), len(values))

    @classmethod
    def merge(cls, parts: Sequence["DataStatistics"]) -> "DataStatistics":
        """The figures of all parts together."""
        if not parts:
            return cls()
        total = cls()
        for name in ("lengths", "behaviours", "targets", "clicks"):
            setattr(total, name, Histogram.merge([getattr(part, name) for part in parts]))
        for part in parts:
            for key, (unknown, values) in part.unknown.items():
                before = total.unknown.get(key, (0, 0))
                total.unknown[key] = (before[0] + unknown, before[1] + values)
        return total


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
    stored = [f.name for f in (*schema.inherent, *schema.stored_cross, *schema.stored_context, *schema.user)]
    return {
        "schema": schema.name,
        "fingerprint": schema.fingerprint,
        "unit": schema.events.time.unit,
        "counts": counts,
        "split": {"valid_from": manifest.split.valid_from, "test_from": manifest.split.test_from},
        "history_lengths": _lengths(statistics.lengths, schema.history.max_length),
        "days": _days(statistics),
        "unknown": {
            split: {name: _share(*statistics.unknown.get((split, name), (0, 0))) for name in stored}
            for split in SPLITS[:3]
        },
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
        "warnings": _warnings(schema, manifest, statistics, logs, items_unlisted or 0, cut),
    }


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None


def _lengths(lengths: Histogram, max_length: int) -> dict[str, Any]:
    users = lengths.total
    longest = int(lengths.keys[-1]) if users else 0
    bins, low = [], 0
    while low <= longest and users:
        high = max(1, 2 * low)
        inside = (lengths.keys >= low) & (lengths.keys < high)
        bins.append([low, high, int(lengths.counts[inside].sum())])
        low = high
    return {
        "users": users,
        "mean": round(float((lengths.keys * lengths.counts).sum() / users), 3) if users else 0.0,
        **{
            name: lengths.at_rank(int(share * (users - 1))) if users else 0
            for name, share in (("median", 0.5), ("p90", 0.9), ("p99", 0.99))
        },
        "longest": longest,
        "cut": int(lengths.counts[lengths.keys > max_length].sum()),
        "max_length": max_length,
        "bins": bins,
    }


def _days(statistics: DataStatistics) -> list[dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for name in ("behaviours", "targets", "clicks"):
        histogram: Histogram = getattr(statistics, name)
        for day, count in zip(histogram.keys.tolist(), histogram.counts.tolist(), strict=True):
            day <<= histogram.level
            found.setdefault(day, {"behaviours": 0, "targets": 0, "clicks": 0})[name] += count
    return [{"day": str(np.datetime64(day, "D")), **found[day]} for day in sorted(found)]


def _warnings(
    schema: FeatureSchema,
    manifest: Manifest,
    statistics: DataStatistics,
    logs: Mapping[str, LogReport],
    items_unlisted: int,
    cut: Mapping[str, Cut],
) -> list[str]:
    counts = manifest.counts
    found = []
    for name, report in logs.items():
        if report.dead > _DEAD_SHARE_TO_MENTION * report.read:
            found.append(f"{report.dead:,} of {report.read:,} rows of the {name} log are malformed: see dead_letters/.")
        for path in report.damaged:
            found.append(f"{path} is damaged: rows of it are lost; fetch it again.")
        for column in log_columns(schema, name).types:  # type: ignore[arg-type]
            if not report.filled.get(column):
                found.append(f"No row of the {name} log has a value in column {column!r}.")
    if counts.items_duplicated:
        found.append(
            f"{counts.items_duplicated:,} rows of the items log repeat an id; of each id the row with the smallest "
            "values counts."
        )
    if items_unlisted > _UNLISTED_TO_MENTION * counts.items:
        found.append(
            f"{items_unlisted:,} of the {counts.items:,} items have events but no row in an items log: "
            "all that is known of them is their id."
        )
    for name, lost in cut.items():
        if lost.items > _CUT_TO_MENTION * counts.items:
            found.append(
                f"{lost.items:,} of the {counts.items:,} items have more values of {name!r} than its max_values "
                f"{schema.feature(name).max_values}: the last {lost.values:,} are cut."
            )
    if counts.events_late:
        found.append(
            f"{counts.events_late:,} events are not later than the end of the previous data; targets among them see "
            "what the previous histories still hold."
        )
    for split, targets in counts.targets.items():
        if not targets:
            found.append(f"The {split} split has no targets.")
    for split in ("valid", "test"):
        for feature in (*schema.inherent, *schema.stored_cross, *schema.stored_context, *schema.user):
            unknown, values = statistics.unknown.get((split, feature.name), (0, 0))
            if values and unknown == values:
                found.append(f"Every value of {feature.name!r} in the {split} split is unknown.")
                continue
            before, of = statistics.unknown.get(("train", feature.name), (0, 0))
            if values and of and unknown / values - before / of > _DRIFT_TO_MENTION:
                found.append(
                    f"{feature.name!r} is unknown in {unknown / values:.0%} of {split}, in {before / of:.0%} of train: "
                    "its values changed, or its vocabulary is cut too short."
                )
    rates = _label_rates(statistics, manifest, schema)
    if len(rates) > 1 and max(rates.values()) > _RATE_TO_MENTION * min(rates.values()):
        shown = ", ".join(f"{rate:.1%} in {split}" for split, rate in rates.items())
        found.append(f"The share of clicked targets differs between the splits: {shown}.")
    return found


def _label_rates(statistics: DataStatistics, manifest: Manifest, schema: FeatureSchema) -> dict[str, float]:
    """Split -> share of clicked targets, by whole days."""
    clicks = dict(zip(statistics.clicks.keys.tolist(), statistics.clicks.counts.tolist(), strict=True))
    sums: dict[str, list[int]] = {}
    per_second, offset = schema.events.time.per_second, round(3600 * schema.events.time.utc_offset_hours)
    for day, count in zip(statistics.targets.keys.tolist(), statistics.targets.counts.tolist(), strict=True):
        noon = ((day * _DAY + _DAY // 2) - offset) * per_second
        number = int(manifest.split.numbers(np.array([noon]))[0])
        if number >= 0:
            found = sums.setdefault(SPLITS[number], [0, 0])
            found[0] += count
            found[1] += clicks.get(day, 0)
    return {split: clicked / count for split, (count, clicked) in sums.items() if count >= _TARGETS_TO_COMPARE}
