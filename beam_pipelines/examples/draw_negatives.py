"""Draws targets without a click for those with one, of the users of a shard; see `twin_tf.features.negatives`.

A draw is a hash of the seed, the positive (user, time, item), the number of the negative and the attempt. So it depends
neither on the order of rows nor on shards, workers or the runner.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from beam_pipelines.examples.catalogue import ItemRows
from beam_pipelines.examples.day_counts import EVENTS, DayCounts, days_of
from beam_pipelines.examples.event_batches import LABEL, REQUEST, SPLIT, TARGET
from beam_pipelines.examples.user_hash import mixed
from twin_tf.features.negatives import Negatives

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]

ATTEMPTS = 100
"""How often an item is drawn for a negative before it is given up."""


class Drawn(NamedTuple):
    """What became of a shard's events.

    Attributes:
        events: with the drawn targets behind them.
        undrawn: negatives that could not be drawn.
        new_items: clicked targets whose item has no event on an earlier day, so that none like it is drawn.
    """

    events: dict[str, Array]
    undrawn: int
    new_items: int


def with_negatives(
    settings: Negatives, days: DayCounts, rows: ItemRows, events: Mapping[str, Array], per_second: int
) -> Drawn:
    """Draws the negatives of a shard.

    Args:
        settings: of the schema.
        days: how often each item occurs on each day.
        rows: of the catalogue.
        events: as `user_histories.build_records` takes them.
        per_second: time units in a second.
    """
    clicked = LABEL | TARGET
    positives = np.flatnonzero(((events["flags"] & clicked) == clicked) & (events[SPLIT] >= 0))
    owner, item = draw(settings, days, events, positives, per_second)
    source = positives[owner]
    drawn = {name: column[source] for name, column in events.items()}
    drawn["item_id"], drawn["item"] = item, rows.of(item).astype(events["item"].dtype)
    drawn["flags"] = np.full(len(item), TARGET, events["flags"].dtype)
    drawn["earlier"] = np.zeros(len(item), np.int64)
    joined = {name: np.concatenate([column, drawn[name]]) for name, column in events.items()}
    before = days.before(days_of(events["time"][positives], per_second), events["item_id"][positives])
    return Drawn(joined, settings.per_positive * len(positives) - len(item), int(np.sum(before[:, EVENTS] == 0)))


def draw(
    settings: Negatives, days: DayCounts, events: Mapping[str, Array], positives: Ints, per_second: int
) -> tuple[Ints, Ints]:
    """Draws.

    Args:
        settings: of the schema.
        days: how often each item occurs on each day.
        events: `user`, `time`, `item_id` and, where the schema names requests, `/request`, `(events,)` each.
        positives: the places of those among them that negatives are drawn for.
        per_second: time units in a second.

    Returns:
        Places in `positives`, rising, and the ids of items, `(drawn,)` each.
    """
    items, wanted = days.keys, settings.per_positive
    shown_on = days_of(events["time"][positives], per_second)
    seen = _seen(events, items)
    group = _groups(events)[positives]
    base = _hash(settings.seed, events["user"][positives], events["time"][positives], events["item_id"][positives])
    found = np.full((len(positives), wanted), -1, np.int64)
    for day, before in days.days_before(np.unique(shown_on)):
        weight = before if settings.by == "popularity" else before > 0
        reach = np.cumsum(weight)
        if not len(reach) or not reach[-1]:
            continue
        mine = np.flatnonzero(shown_on == day)
        for number in range(wanted):
            waiting = mine
            for attempt in range(ATTEMPTS):
                if not len(waiting):
                    break
                chance = mixed(mixed(base[waiting] + np.uint64(number)) + np.uint64(attempt)) % np.uint64(reach[-1])
                place = np.searchsorted(reach, chance.astype(np.int64), side="right")
                again = (found[waiting, :number] == place[:, None]).any(axis=1)
                taken = again | _contains(seen, group[waiting] * len(items) + place)
                found[waiting[~taken], number] = place[~taken]
                waiting = waiting[taken]
    owner, which = np.nonzero(found >= 0)
    return owner, items[found[owner, which]]


def _groups(events: Mapping[str, Array]) -> Ints:
    """A number for each event: the same where user and request are, or user and time where no request is named."""
    request = events.get(REQUEST, np.zeros(len(events["user"]), np.int64))
    named = request > 0
    keys = [np.where(named, request, events["time"]), named, events["user"]]
    order = np.lexsort(keys)
    new = np.ones(len(order), bool)
    if len(order):
        new[1:] = np.any([key[order][1:] != key[order][:-1] for key in keys], axis=0)
    found = np.zeros(len(order), np.int64)
    found[order] = np.cumsum(new) - 1
    return found


def _seen(events: Mapping[str, Array], items: Ints) -> Ints:
    """`group * items + place of the item` of every event, rising."""
    place = np.searchsorted(items, events["item_id"])
    known = place < len(items)
    known[known] = items[place[known]] == events["item_id"][known]
    return np.unique(_groups(events)[known] * len(items) + place[known])


def _contains(rising: Ints, keys: Ints) -> npt.NDArray[np.bool_]:
    place = np.minimum(np.searchsorted(rising, keys), max(0, len(rising) - 1))
    return rising[place] == keys if len(rising) else np.zeros(len(keys), bool)


def _hash(seed: int, *columns: Ints) -> npt.NDArray[np.uint64]:
    found = np.full(len(columns[0]), seed, np.uint64)
    with np.errstate(over="ignore"):
        for column in columns:
            found = mixed(found + column.astype(np.int64).view(np.uint64))
    return found
