"""Events of some users to records: histories, targets and what each target may see. NumPy only, no object per event."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_pipelines.examples.event_batches import BEHAVIOUR, LABEL, REQUEST, SPLIT, TARGET, WEIGHT
from twin_tf.features.schema import UNKNOWN, FeatureSchema
from twin_tf.records import format as keys
from twin_tf.records.format import SPLITS, SplitName
from twin_tf.records.packing import FLOAT_WIDTH, MAX_WIDTH, float_bits, pack, width_of

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]

ORDER = "order/"
_HISTORY_END_WIDTH = 4


@dataclasses.dataclass(frozen=True)
class Record:
    """One record before serialisation.

    Attributes:
        split: where it belongs.
        features: key -> value.
        events: behaviours that it holds.
        seen: behaviours that each of its targets sees.
    """

    split: SplitName
    features: Mapping[str, int | bytes]
    events: int
    seen: Ints


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the numbers of a run are packed.

    Attributes:
        widths: packed key -> bytes a value.
        time_origin: what times count from.
        known: stored cross feature -> its cardinality; a larger index is a place among the pending values.
    """

    widths: Mapping[str, int]
    time_origin: int
    known: Mapping[str, int]

    @classmethod
    def of(
        cls,
        schema: FeatureSchema,
        cardinalities: Mapping[str, int],
        items: int,
        rare_values: Mapping[str, int],
        times: tuple[int, int],
    ) -> "Layout":
        """The narrowest layout.

        Args:
            schema: the schema.
            cardinalities: feature -> rows of its table.
            items: rows of the catalogue, padding and unknown included.
            rare_values: vocabulary cross feature -> number of its pending values.
            times: the earliest and the latest time of any event.
        """
        item, time = width_of(items - 1), width_of(times[1] - times[0])
        widths = {keys.HISTORY_ITEM: item, keys.HISTORY_TIME: time, keys.TARGET_ITEM: item, keys.TARGET_TIME: time}
        widths.update({keys.TARGET_LABEL: 1, keys.TARGET_HISTORY_END: _HISTORY_END_WIDTH})
        widths.update({keys.history_key(f.name): width_of(cardinalities[f.name] - 1) for f in schema.stored_cross})
        widths.update({keys.value_key(f.name): FLOAT_WIDTH for f in schema.kept_values})
        widths.update({keys.target_key(f.name): width_of(cardinalities[f.name] - 1) for f in schema.stored_target})
        if schema.targets.weight is not None:
            widths[keys.TARGET_WEIGHT] = FLOAT_WIDTH
        if schema.events.request is not None:
            widths[keys.TARGET_REQUEST] = MAX_WIDTH
        widths.update({keys.pending_key(name): width_of(count) for name, count in rare_values.items()})
        return cls(widths, times[0], {f.name: cardinalities[f.name] for f in schema.stored_cross})


def build_records(
    schema: FeatureSchema,
    events: Mapping[str, Array],
    users: Mapping[str, Array],
    layout: Layout,
    latest: Mapping[str, Array] | None = None,
) -> Iterator[Record]:
    """Builds every record of some users, in the order of user and time.

    Args:
        schema: the schema.
        events: all events of these users in any order, `(events,)` each: `user`, `item` (row), `time`, `flags`
            (LABEL, BEHAVIOUR, TARGET; none of them: only the user is known), `item_id`, `earlier` (behaviours that its
            user had before these), one index column per stored feature of behaviours and targets, and `order/<feature>`
            where the order of indices is not that of the values, `value/<feature>` (the bits of a float32) of cross
            features whose values are kept, `weight` (float32) if the schema weighs targets, `/request` (0 for none) if
            it names requests, and `split`: the place in `SPLITS` of each target, -1 for none.
        users: `id` (rising) and one index column per user feature, of any users.
        layout: how to pack.
        latest: context feature counted of users -> the index of each of these users, by rising id, as of now.

    Yields:
        Per user the records of its targets, then its latest history.
    """
    cross = [f.name for f in schema.stored_cross]
    of_target = [f.name for f in schema.stored_target]
    weight = [WEIGHT] if schema.targets.weight is not None else []
    request = [REQUEST] if schema.events.request is not None else []
    flags = events["flags"]
    kept = [keys.value_key(f.name) for f in schema.kept_values]
    behaviours = _sorted(events, BEHAVIOUR, [*cross, *kept])
    targets = _sorted(events, TARGET, [*of_target, *weight, *request])
    others = events["user"][(flags & (BEHAVIOUR | TARGET)) == 0]
    ids = np.unique(np.concatenate([*(_distinct(rows["user"]) for rows in (behaviours, targets)), others]))
    targets = {name: column[targets[SPLIT] >= 0] for name, column in targets.items()}
    if schema.split.by == "column":  # a user's splits may alternate, and a record holds targets of one
        order = np.lexsort([targets[SPLIT], targets["user"]])
        targets = {name: column[order] for name, column in targets.items()}
    which = targets.pop(SPLIT)
    history_first = np.searchsorted(behaviours["user"], ids, side="left")
    history_last = np.searchsorted(behaviours["user"], ids, side="right")
    owner = np.searchsorted(ids, targets["user"])
    end = _strictly_earlier(behaviours["time"], targets["time"], owner, history_first, history_last)
    first, last = _cut(owner, which, schema.targets.per_record)
    record_owner = owner[first] if len(first) else first
    record_of_user = np.searchsorted(record_owner, np.arange(len(ids) + 1))
    totals = history_last - history_first + earlier_behaviours(events, ids)
    user_features = features_of_users(schema, ids, users)
    history_bytes, rare_value_bytes = _pack_history(behaviours, cross, kept, layout)
    target_bytes = _pack_targets(targets, of_target, layout)
    end_width = layout.widths[keys.TARGET_HISTORY_END]

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
                keys.HISTORY_LENGTH: history.stop - history.start,
                **_cut_out(history_bytes, history, layout),
                keys.TARGET_LENGTH: part.stop - part.start,
                **_cut_out(target_bytes, part, layout),
                keys.TARGET_HISTORY_END: pack(end[part] - start, end_width),
            }
            seen = np.minimum(end[part], schema.history.max_length)
            yield Record(SPLITS[which[part.start]], features, history.stop - history.start, seen)
        stop = int(history_last[place])
        history = slice(max(base, stop - schema.history.max_length), stop)
        rare_values = _cut_out(rare_value_bytes, history, layout)
        features = {
            **known,
            keys.HISTORY_LENGTH: history.stop - history.start,
            keys.HISTORY_TOTAL: int(totals[place]),
            **{keys.user_key(name): int(column[place]) for name, column in (latest or {}).items()},
            **_cut_out(history_bytes, history, layout),
            **{key: value for key, value in rare_values.items() if any(value)},
            keys.TARGET_LENGTH: 0,
            **dict.fromkeys(target_bytes, b""),
            keys.TARGET_HISTORY_END: b"",
        }
        yield Record("histories", features, stop - history.start, np.zeros(0, np.int64))


def _sorted(events: Mapping[str, Array], flag: int, features: list[str]) -> dict[str, Array]:
    """The events with a flag by user, time, item id, label (of targets) and values, whatever the order they come in.

    Neither rows of items nor indices decide, for they depend on which run saw a value first.
    """
    mask = (events["flags"] & flag) != 0
    chosen = {name: events[name][mask] for name in ("user", "time", "item", *features)}
    chosen["label"] = (events["flags"][mask] & LABEL).astype(np.int32)
    if flag == TARGET:
        chosen[SPLIT] = events[SPLIT][mask]
    ties = [events.get(ORDER + name, events[name])[mask] for name in reversed(features)]
    ties += [*([chosen["label"]] if flag == TARGET else []), events["item_id"][mask]]
    order = np.lexsort([chosen["time"], chosen["user"]])
    same = np.zeros(len(order) + 1, bool)
    same[1:-1] = np.all([chosen[n][order][1:] == chosen[n][order][:-1] for n in ("user", "time")], axis=0)
    tied = np.flatnonzero(same[1:] | same[:-1])
    rows = order[tied]
    order[tied] = rows[np.lexsort([key[rows] for key in (*ties, chosen["time"], chosen["user"])])]
    return {name: np.ascontiguousarray(column[order]) for name, column in chosen.items()}


def _distinct(rising: Ints) -> Ints:
    return rising[np.r_[True, rising[1:] != rising[:-1]][: len(rising)]]


def _strictly_earlier(behaviours: Ints, targets: Ints, owner: Ints, first: Ints, last: Ints) -> Ints:
    """For each target how many behaviours of its user are earlier.

    Args:
        behaviours: times, by user and time.
        targets: times, by user and time.
        owner: user of each target, from 0.
        first: of each user, its first behaviour.
        last: of each user, one past its last behaviour.
    """
    earlier = np.zeros(len(targets), np.int64)
    users = _distinct(owner)
    starts = np.searchsorted(owner, users)
    for user, start, stop in zip(users.tolist(), starts.tolist(), [*starts[1:].tolist(), len(owner)], strict=False):
        earlier[start:stop] = np.searchsorted(behaviours[first[user] : last[user]], targets[start:stop], side="left")
    return earlier


def _cut(owner: Ints, which: Ints, per_record: int) -> tuple[Ints, Ints]:
    """First and one past the last target of each record: a user's targets of a split in runs of `per_record`."""
    if not len(owner):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    new = np.r_[True, (owner[1:] != owner[:-1]) | (which[1:] != which[:-1])]
    places = np.arange(len(owner))
    run_start = np.maximum.accumulate(np.where(new, places, 0))
    first = np.flatnonzero((places - run_start) % per_record == 0)
    return first, np.r_[first[1:], len(owner)]


def earlier_behaviours(events: Mapping[str, Array], ids: Ints) -> Ints:
    """For each user in `ids` (rising), the behaviours before those that are there."""
    some = np.flatnonzero(events["earlier"])
    found = np.zeros(len(ids), np.int64)
    np.add.at(found, np.searchsorted(ids, events["user"][some]), events["earlier"][some])
    return found


def features_of_users(schema: FeatureSchema, ids: Ints, users: Mapping[str, Array]) -> dict[str, Array]:
    """User feature -> the index of each user in `ids`; unknown for a user that `users` (`id` rising) lacks."""
    listed = users["id"]
    if not len(listed):
        return {f.name: np.full(len(ids), UNKNOWN, np.int32) for f in schema.user}
    place = np.minimum(np.searchsorted(listed, ids), len(listed) - 1)
    found = listed[place] == ids
    return {f.name: np.where(found, users[f.name][place], UNKNOWN) for f in schema.user}


def _pack_history(
    behaviours: Mapping[str, Array], cross: list[str], kept: list[str], layout: Layout
) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """All behaviours, packed by key; and the places of pending values, of the features that have any."""
    columns = {keys.HISTORY_ITEM: behaviours["item"], keys.HISTORY_TIME: behaviours["time"] - layout.time_origin}
    columns.update((key, behaviours[key]) for key in kept)
    rare_values = {}
    for name in cross:
        waiting = behaviours[name] >= layout.known[name]
        columns[keys.history_key(name)] = np.where(waiting, UNKNOWN, behaviours[name])
        if waiting.any():
            rare_values[keys.pending_key(name)] = np.where(waiting, behaviours[name] - layout.known[name] + 1, 0)
    packed = (
        {key: pack(column, layout.widths[key]) for key, column in part.items()} for part in (columns, rare_values)
    )
    return next(packed), next(packed)


def _pack_targets(targets: Mapping[str, Array], features: list[str], layout: Layout) -> dict[str, bytes]:
    columns = {
        keys.TARGET_ITEM: targets["item"],
        keys.TARGET_TIME: targets["time"] - layout.time_origin,
        keys.TARGET_LABEL: targets["label"],
    }
    columns.update((keys.target_key(name), targets[name]) for name in features)
    if WEIGHT in targets:
        columns[keys.TARGET_WEIGHT] = float_bits(targets[WEIGHT])
    if REQUEST in targets:
        columns[keys.TARGET_REQUEST] = targets[REQUEST]
    return {key: pack(column, layout.widths[key]) for key, column in columns.items()}


def _cut_out(packed: Mapping[str, bytes], part: slice, layout: Layout) -> dict[str, bytes]:
    return {key: data[part.start * layout.widths[key] : part.stop * layout.widths[key]] for key, data in packed.items()}
