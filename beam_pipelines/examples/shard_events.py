"""The events of one user shard as one table: collected histories get their times, and duplicates are dropped.

A collected history without times (`events.collected_history`) belongs right before the row that holds it, and what it
holds was done before. So of several of a user the one of the user's first event counts alone, and what came later is in
the log itself; and none counts for a user of whom an earlier run knows behaviours.
"""

from collections.abc import Container, Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_pipelines.examples.batch_bytes import EventBatch, from_event_batches, group_by_kind
from beam_pipelines.examples.event_batches import NO_TIME, first_of_duplicates
from beam_pipelines.raw_logs.raw_columns import BACK, COLLECTED, LENGTH
from twin_tf.features.schema import FeatureSchema

_NEVER = np.iinfo(np.int64).max
_TOGETHER = 1 << 17  # rows: what looks at columns costs by the call too


def distinct_events(
    schema: FeatureSchema, event_batches: Iterable[EventBatch], columns: Container[str] | None = None
) -> Iterator[tuple[pa.Table, int]]:
    """The events of a shard as records are made of them.

    Args:
        schema: the schema; with neither `events.deduplicate` nor `events.collected_history` the tables pass some at a
            time.
        event_batches: of one user shard, any kinds.
        columns: those that are needed at least; None: all.

    Yields:
        Tables of kind `events`, and how many rows of each were dropped.
    """
    if not schema.events.deduplicate and schema.events.collected_history is None:
        waiting: list[pa.Table] = []
        for _, table in from_event_batches(event_batches, "events", columns=columns):
            waiting.append(table)
            if sum(map(len, waiting)) >= _TOGETHER:
                yield pa.concat_tables(waiting), 0
                waiting = []
        if waiting:
            yield pa.concat_tables(waiting), 0
        return
    found = group_by_kind(event_batches, "events", "previous")
    if found["events"]:
        rows = sum(table.num_rows for table in found["events"])
        events = shard_events(schema, found["events"], found["previous"])
        yield events, rows - events.num_rows


def shard_events(schema: FeatureSchema, events: list[pa.Table], previous: list[pa.Table]) -> pa.Table:
    """The same of all tables of a shard together, in one table.

    Args:
        schema: the schema.
        events: of kind `events`, at least one.
        previous: behaviours of an earlier run, of the same shard.
    """
    table = pa.concat_tables(events).unify_dictionaries()
    if schema.events.collected_history is not None:
        table = _with_collected(table, previous)
    if schema.events.deduplicate:
        table = table.filter(pa.array(first_of_duplicates(table, previous)))
    return table


def _with_collected(events: pa.Table, previous: list[pa.Table]) -> pa.Table:
    """The events with the times of collected behaviours; one that several histories hold is there once."""
    user, time, back, length = (events[name].to_numpy() for name in ("user", "time", BACK, LENGTH))
    collected = events[COLLECTED].to_numpy()
    untimed = back > 0
    _, place = np.unique(user, return_inverse=True)
    moment = np.where(time == NO_TIME, _NEVER, time)  # of the row that holds a history, or of the event
    first = _smallest_of(place, np.where(collected & ~untimed, _NEVER, moment))[place]
    counts = untimed & ((moment == first) | (time == NO_TIME)) & (first != _NEVER)
    for table in previous:
        counts &= ~np.isin(user, table["user"].to_numpy())
    longest = -_smallest_of(place, np.where(counts, -length.astype(np.int64), 0))[place]
    keep = ~untimed | (counts & (length == longest))
    times = pa.array(np.where(untimed, first - back, time)[keep])
    events = events.drop_columns([COLLECTED, BACK, LENGTH]).filter(pa.array(keep))
    events = events.set_column(events.column_names.index("time"), "time", times)
    collected = collected[keep]
    histories = events.filter(pa.array(collected))
    once = np.ones(events.num_rows, bool)
    once[collected] = first_of_duplicates(histories, previous)
    return events.filter(pa.array(once))


def _smallest_of(place: npt.NDArray[np.int64], numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The smallest number of each group, `(groups,)`."""
    found = np.full(int(place.max(initial=-1)) + 1, _NEVER)
    np.minimum.at(found, place, numbers)
    return found
