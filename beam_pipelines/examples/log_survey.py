"""What the events of the shards hold as a whole, found before anything is counted: times, and so the splits."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from beam_pipelines.examples.event_batches import BEHAVIOUR, TARGET
from beam_pipelines.examples.shard_split import columns_of, numbers_by_row
from beam_pipelines.examples.value_counts import Histogram
from twin_tf.features.schema import FeatureSchema, Split
from twin_tf.records.format import Manifest, SplitTimes


@dataclasses.dataclass
class LogSurvey:
    """Figures of events that merge.

    Attributes:
        events: how many, duplicates left out.
        behaviours: how many of them are behaviours.
        duplicated: dropped duplicates.
        late: events that are not later than the previous run's last.
        target_times: times of the targets.
        times: the earliest and the latest time, or None without events.
        trained: targets that train, where each row says so (`shard_split.numbers_by_row`).
    """

    events: int = 0
    behaviours: int = 0
    duplicated: int = 0
    late: int = 0
    target_times: Histogram = dataclasses.field(
        default_factory=lambda: Histogram(np.zeros(0, np.int64), np.zeros(0, np.int64))
    )
    times: tuple[int, int] | None = None
    trained: int = 0

    @classmethod
    def of(cls, tables: Iterable[tuple[pa.Table, int]], last_time: int | None, split: Split) -> "LogSurvey":
        """Looks at what `shard_events.distinct_events` yields; `last_time` is of the previous run."""
        parts = []
        for table, dropped in tables:
            columns = columns_of(table)
            times, flags = columns["time"], columns["flags"]
            target = (flags & TARGET) != 0
            targets = Histogram.of(times[target])
            by_row = split.by in ("user", "column")
            trained = int((target & (numbers_by_row(split, columns) == 0)).sum()) if by_row else 0
            late = 0 if last_time is None else int((times <= last_time).sum())
            span = (int(times.min()), int(times.max())) if len(times) else None
            parts.append(cls(len(times), int(((flags & BEHAVIOUR) != 0).sum()), dropped, late, targets, span, trained))
        return cls.merge(parts)

    @classmethod
    def merge(cls, parts: Sequence["LogSurvey"]) -> "LogSurvey":
        """The figures of all parts together."""
        total = cls()
        for name in ("events", "behaviours", "duplicated", "late", "trained"):
            setattr(total, name, sum(getattr(part, name) for part in parts))
        if parts:
            total.target_times = Histogram.merge([part.target_times for part in parts])
        spans = [part.times for part in parts if part.times is not None]
        total.times = (min(low for low, _ in spans), max(high for _, high in spans)) if spans else None
        return total


def find_split(schema: FeatureSchema, log_survey: LogSurvey, previous: Manifest | None) -> SplitTimes | str:
    """The moments between the splits, or the sentence that says why there are none."""
    times = log_survey.target_times
    if not times.total:
        return f"the events log has no targets: no row holds {_shown(schema.targets.where)} (schema.targets.where)"
    if not log_survey.behaviours and previous is None:
        return f"the events log has no behaviours: no row holds {_shown(schema.history.where)} (schema.history.where)"
    split = schema.split
    if split.by != "time":
        return _without_moments(split, log_survey, previous)
    gap = split.gap * schema.events.time.per_second
    if split.valid_from is not None and split.test_from is not None:
        found = SplitTimes(split.valid_from, split.test_from, gap)
    else:
        total = times.total
        ends = [
            times.at_rank(min(int(share * total + 1e-9), total - 1))
            for share in (split.train, split.train + split.valid)
        ]
        if split.train + split.valid >= 1:
            ends[1] = times.at_rank(total - 1) + 1
        found = SplitTimes(ends[0], ends[1], gap)
    if previous is not None and found.train_until <= previous.last_time:
        return (
            f"validation would begin at {found.valid_from} (gap {gap}), but the previous data end at "
            f"{previous.last_time}: what they counted must lie in the training window; give later logs or split times"
        )
    if times.at_rank(0) >= found.train_until:
        return (
            f"no target is earlier than {found.train_until}, so nothing is left to train on; give schema.split another "
            "share, gap or times of its own"
        )
    return found


def _without_moments(split: Split, log_survey: LogSurvey, previous: Manifest | None) -> SplitTimes | str:
    if previous is not None:
        return (
            f"logs that are split by {split.by} cannot continue previous data: what has trained once must not test "
            "later; split by time, or prepare all logs at once"
        )
    if split.by != "user_time" and not log_survey.trained:
        cause = f"no target has train in column {split.column!r}" if split.column else "no user is in the train part"
        return f"{cause}, so nothing is left to train on; change schema.split"
    assert log_survey.times is not None
    end = log_survey.times[1] + 1
    return SplitTimes(end, end, by=split.by)


def _shown(where: Mapping[str, tuple[object, ...]]) -> str:
    return " and ".join(f"{column} in {list(values)}" for column, values in where.items()) or "a label"
