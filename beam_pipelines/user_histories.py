"""Events of some users to records: histories, targets and what each target may see. NumPy only, no object per event."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from twin_tf import records as keys
from twin_tf.records import SplitName, SplitTimes
from twin_tf.schema import UNKNOWN, FeatureSchema

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]

LABEL, BEHAVIOUR, TARGET = 1, 2, 4
_SPLIT_NAMES: tuple[SplitName, ...] = ("train", "valid", "test")


@dataclasses.dataclass(frozen=True)
class Record:
    """One record before serialisation: its split, its features and how many behaviours and targets it holds."""

    split: SplitName
    features: Mapping[str, int | bytes]
    events: int
    targets: int


def shard_of(users: Ints, shards: int) -> npt.NDArray[np.int32]:
    """The shard of each user: a fixed mixing hash (SplitMix64) of the id, modulo `shards`."""
    with np.errstate(over="ignore"):
        mixed = users.view(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return (mixed % np.uint64(shards)).astype(np.int32)


def build_records(
    schema: FeatureSchema, events: Mapping[str, Array], users: Mapping[str, Array], split: SplitTimes
) -> Iterator[Record]:
    """Builds every record of some users, in the order of user and time.

    Args:
        schema: the schema.
        events: all kept events of these users in any order, `(events,)` each: `user`, `item` (row), `time`, `flags`
            (LABEL, BEHAVIOUR, TARGET), and one index column per stored cross and context feature.
        users: `id` (rising) and one index column per user feature, of any users.
        split: the moments between the splits.

    Yields:
        Per user the records of its targets, then its latest history.
    """
    cross = [f.name for f in schema.stored_cross]
    context = [f.name for f in schema.stored_context]
    flags = events["flags"]
    behaviours = _sorted(events, (flags & BEHAVIOUR) != 0, ["item", *cross], cross)
    targets = _sorted(events, (flags & TARGET) != 0, ["item", "label", *context], context)
    ids = np.union1d(behaviours["user"], targets["user"])
    history_first = np.searchsorted(behaviours["user"], ids, side="left")
    history_last = np.searchsorted(behaviours["user"], ids, side="right")
    owner = np.searchsorted(ids, targets["user"])
    end = _strictly_earlier(behaviours, targets) - history_first[owner]
    which = np.searchsorted([split.valid_from, split.test_from], targets["time"], side="right")
    first, last = _cut(owner, which, schema.targets.per_record)
    record_owner = owner[first] if len(first) else first
    record_of_user = np.searchsorted(record_owner, np.arange(len(ids) + 1))
    user_features = _user_features(schema, ids, users)

    for place, user in enumerate(ids.tolist()):
        known: dict[str, int | bytes] = {keys.USER_ID: user}
        known.update((keys.user_key(name), int(column[place])) for name, column in user_features.items())
        base = int(history_first[place])
        for number in range(record_of_user[place], record_of_user[place + 1]):
            part = slice(int(first[number]), int(last[number]))
            start = max(0, int(end[part.start]) - schema.history.max_length)
            history = slice(base + start, base + int(end[part.stop - 1]))
            features = {
                **known,
                **_history(behaviours, cross, history),
                **_targets(targets, context, part, end[part] - start),
            }
            name = _SPLIT_NAMES[which[part.start]]
            yield Record(name, features, history.stop - history.start, part.stop - part.start)
        stop = int(history_last[place])
        history = slice(max(base, stop - schema.history.max_length), stop)
        nothing = _targets(targets, context, slice(0, 0), end[:0])
        yield Record("histories", {**known, **_history(behaviours, cross, history), **nothing}, stop - history.start, 0)


def _sorted(
    events: Mapping[str, Array], mask: npt.NDArray[np.bool_], ties: list[str], features: list[str]
) -> dict[str, Array]:
    """The chosen events by user, time, then `ties`, so that the order of the input never matters."""
    chosen = {name: events[name][mask] for name in ("user", "time", "item", *features)}
    chosen["label"] = (events["flags"][mask] & LABEL).astype(np.int32)
    order = np.lexsort([chosen[name] for name in reversed(("user", "time", *ties))])
    return {name: np.ascontiguousarray(column[order]) for name, column in chosen.items()}


def _strictly_earlier(behaviours: Mapping[str, Array], targets: Mapping[str, Array]) -> Ints:
    """For each target the place after its user's last behaviour with an earlier time, among all behaviours."""
    users = np.union1d(behaviours["user"], targets["user"])
    times = np.union1d(behaviours["time"], targets["time"])

    def moment(rows: Mapping[str, Array]) -> Ints:
        return np.searchsorted(users, rows["user"]) * len(times) + np.searchsorted(times, rows["time"])

    return np.searchsorted(moment(behaviours), moment(targets), side="left")


def _cut(owner: Ints, which: Ints, per_record: int) -> tuple[Ints, Ints]:
    """First and one past the last target of each record: a user's targets of a split in runs of `per_record`."""
    if not len(owner):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    new = np.r_[True, (owner[1:] != owner[:-1]) | (which[1:] != which[:-1])]
    places = np.arange(len(owner))
    run_start = np.maximum.accumulate(np.where(new, places, 0))
    first = np.flatnonzero((places - run_start) % per_record == 0)
    return first, np.r_[first[1:], len(owner)]


def _user_features(schema: FeatureSchema, ids: Ints, users: Mapping[str, Array]) -> dict[str, Array]:
    if not schema.user:
        return {}
    listed = users["id"]
    if not len(listed):
        return {f.name: np.full(len(ids), UNKNOWN, np.int32) for f in schema.user}
    place = np.minimum(np.searchsorted(listed, ids), len(listed) - 1)
    found = listed[place] == ids
    return {f.name: np.where(found, users[f.name][place], UNKNOWN) for f in schema.user}


def _history(behaviours: Mapping[str, Array], cross: list[str], part: slice) -> dict[str, int | bytes]:
    features: dict[str, int | bytes] = {
        keys.HISTORY_LENGTH: part.stop - part.start,
        keys.HISTORY_ITEM: _packed(behaviours["item"][part], "<i4"),
        keys.HISTORY_TIME: _packed(behaviours["time"][part], "<i8"),
    }
    features.update((keys.history_key(name), _packed(behaviours[name][part], "<i4")) for name in cross)
    return features


def _targets(targets: Mapping[str, Array], context: list[str], part: slice, end: Ints) -> dict[str, int | bytes]:
    features: dict[str, int | bytes] = {
        keys.TARGET_LENGTH: part.stop - part.start,
        keys.TARGET_ITEM: _packed(targets["item"][part], "<i4"),
        keys.TARGET_TIME: _packed(targets["time"][part], "<i8"),
        keys.TARGET_LABEL: _packed(targets["label"][part], "<i4"),
        keys.TARGET_HISTORY_END: _packed(end, "<i4"),
    }
    features.update((keys.target_key(name), _packed(targets[name][part], "<i4")) for name in context)
    return features


def _packed(values: Array, dtype: str) -> bytes:
    return values.astype(dtype, copy=False).tobytes()
