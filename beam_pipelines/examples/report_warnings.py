"""What the data report warns of, in words."""

from collections.abc import Mapping

import numpy as np

from beam_pipelines.examples.catalogue import Cut
from beam_pipelines.examples.statistics import DataStatistics, SplitStatistics
from beam_pipelines.raw_logs.column_kinds import differences
from beam_pipelines.raw_logs.list_columns import columns_of_file
from beam_pipelines.raw_logs.log_report import LogReport
from beam_pipelines.raw_logs.raw_columns import log_columns
from twin_tf.features.schema import FeatureSchema
from twin_tf.records.format import Manifest

_DEAD_SHARE_TO_MENTION = 0.0005
_NEW_ITEMS_TO_MENTION = 0.01  # of the clicked targets
_UNLISTED_TO_MENTION = 0.01
_CUT_TO_MENTION = 0.01
_DRIFT_TO_MENTION = 0.2
_UNTRAINED_TO_MENTION = 0.01
_RATE_TO_MENTION, _DEVIATIONS = 1.2, 4.0
_ENDS = 5  # the first and the last fifth of the targets are compared
_FEW_USERS = 100
_DAYS_OF_1970 = 365


def warnings_of(
    schema: FeatureSchema,
    manifest: Manifest,
    statistics: DataStatistics,
    logs: Mapping[str, LogReport],
    items_unlisted: int,
    cut: Mapping[str, Cut],
) -> list[str]:
    """What people should know before they train on the data, a sentence each."""
    counts = manifest.counts
    found = []
    for name, report in logs.items():
        if report.dead > _DEAD_SHARE_TO_MENTION * report.read:
            found.append(f"{report.dead:,} of {report.read:,} rows of the {name} log are malformed: see dead_letters/.")
        for path in report.damaged:
            found.append(f"{path} is damaged: rows of it are lost; fetch it again.")
        columns = log_columns(schema, name)  # type: ignore[arg-type]
        for column in columns.types:
            if not report.filled.get(column):
                found.append(f"No row of the {name} log has a value in column {column!r}.")
        found += differences(columns_of_file(columns), report.kinds)
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
    found += _of_draws(schema, statistics)
    for split, targets in counts.targets.items():
        if not targets:
            found.append(f"The {split} split has no targets.")
    for split in ("valid", "test"):
        for feature in (*schema.inherent, *schema.stored_cross, *schema.stored_target, *schema.user):
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
    if manifest.label_of_all is not None:
        label = "is a click" if manifest.label_of_all else "is no click"
        found.append(
            f"Every target of the train split {label}: a model learns nothing from one class. Look at events.label and "
            "targets.where of the schema (targets.negatives draws targets without a click); `twin-tf train` refuses "
            "such data."
        )
    return [*found, *_of_times(schema, statistics), *_of_splits(schema, statistics), *_of_rates(statistics)]


def _of_draws(schema: FeatureSchema, statistics: DataStatistics) -> list[str]:
    """What drawn negatives cannot be like, and what cannot be counted of a log without others."""
    found: list[str] = []
    if schema.targets.negatives is None:
        return found
    splits = statistics.splits.values()
    targets, clicks = sum(split.targets for split in splits), sum(split.clicks for split in splits)
    drawn = schema.targets.negatives.per_positive * clicks - statistics.undrawn
    if statistics.undrawn:
        found.append(
            f"{statistics.undrawn:,} negatives could not be drawn: no item but those of the same request has events on "
            "an earlier day. The targets of the first day have none."
        )
    if statistics.clicked_new_items > _NEW_ITEMS_TO_MENTION * clicks:
        found.append(
            f"{statistics.clicked_new_items:,} of {clicks:,} clicked targets show an item that has no event on an "
            "earlier day, and no drawn one can: a model learns that new items are clicked."
        )
    rates = [feature.name for feature in schema.of_target if (feature.counted or "").endswith("_rate")]
    if rates and targets - drawn == clicks:
        found.append(
            f"Every target of the log is a click, so {rates[0]!r} counts the same rate of everything: use item_count "
            "or user_count in its place."
        )
    return found


def _of_times(schema: FeatureSchema, statistics: DataStatistics) -> list[str]:
    days = np.union1d(*((part.keys << part.level) for part in (statistics.behaviours, statistics.targets)))
    if not len(days):
        return []
    first, last = (str(np.datetime64(int(day), "D")) for day in (days[0], days[-1]))
    when = f"Every event lies on one date, {first}" if first == last else f"Every event lies before {last} ends"
    by = " A split by time says little then: split.by can be user_time or user." if schema.split.by == "time" else ""
    if days[-1] < _DAYS_OF_1970:
        time = schema.events.time
        return [f"{when}: {time.column!r} seems to be a counter, or its unit is not events.time.unit: {time.unit}.{by}"]
    return [f"{when}.{by}"] if len(days) == 1 else []


def _of_splits(schema: FeatureSchema, statistics: DataStatistics) -> list[str]:
    found = []
    for name in ("valid", "test"):
        split = statistics.splits.get(name, SplitStatistics())
        if 0 < split.users < _FEW_USERS:
            found.append(
                f"The {name} split has targets of {split.users:,} users only ({split.targets:,} targets): its figures "
                "depend on who they are."
            )
    for feature in (*schema.inherent, *schema.user):
        shares = {}
        for name in ("valid", "test"):
            values = statistics.unknown.get((name, feature.name), (0, 0))[1]
            shares[name] = (statistics.untrained_values(name, feature) or 0) / values if values else 0.0
        worst = max(shares, key=lambda name: shares[name])
        if shares[worst] > _UNTRAINED_TO_MENTION:
            log = "users" if feature.role == "user" else "items"
            found.append(
                f"{shares[worst]:.1%} of the values of {feature.name!r} in {worst} have a row of their own only "
                f"because the {log} log names them: no training event has them, so their embeddings are never trained."
            )
    return found


def _of_rates(statistics: DataStatistics) -> list[str]:
    """Label rates that differ by more than a fifth and by more than chance."""
    found = []
    rates = {name: (split.clicks, split.targets) for name, split in statistics.splits.items() if split.targets}
    for name in ("valid", "test"):
        if name in rates and "train" in rates and _differ(rates["train"], rates[name]):
            one, other = (clicks / targets for clicks, targets in (rates["train"], rates[name]))
            found.append(
                f"The share of clicked targets differs between the splits: {one:.1%} in train, {other:.1%} in {name}."
            )
    days, targets = statistics.targets.keys, statistics.targets.counts
    if len(days) > 1:
        clicks = np.zeros(len(days), np.int64)
        clicks[np.searchsorted(days, statistics.clicks.keys)] = statistics.clicks.counts
        running = np.cumsum(targets)
        first = int(np.searchsorted(running, running[-1] / _ENDS)) + 1
        last = min(int(np.searchsorted(running, running[-1] * (1 - 1 / _ENDS), side="right")), len(days) - 1)
        ends = [(int(clicks[part].sum()), int(targets[part].sum())) for part in (slice(first), slice(last, None))]
        if first <= last and _differ(*ends):
            shown = [str(np.datetime64(int(days[place]), "D")) for place in (first - 1, last)]
            found.append(
                f"The share of clicked targets drifts: {ends[0][0] / ends[0][1]:.1%} until {shown[0]}, "
                f"{ends[1][0] / ends[1][1]:.1%} from {shown[1]} on."
            )
    return found


def _differ(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two shares (part, whole) differ by more than a fifth and by `_DEVIATIONS` deviations."""
    shares = [part / whole for part, whole in (one, other)]
    pooled = (one[0] + other[0]) / (one[1] + other[1])
    deviation = (pooled * (1 - pooled) * (1 / one[1] + 1 / other[1])) ** 0.5
    return max(shares) > _RATE_TO_MENTION * min(shares) and abs(shares[0] - shares[1]) > _DEVIATIONS * deviation
