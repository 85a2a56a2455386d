"""What the search retrieves for a few real users, for a click and for a target that was not clicked."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from twin_tf.core.files import JsonDict
from twin_tf.core.keras_api import tf
from twin_tf.evaluation.item_names import item_names, shown_ids
from twin_tf.evaluation.yardsticks import default_category
from twin_tf.features.encoders import FeatureEncoder
from twin_tf.features.raw_ids import id_feature, id_texts
from twin_tf.models.twin import TwinModel
from twin_tf.records.batch import Batch
from twin_tf.records.format import Manifest, SplitName
from twin_tf.records.input_pipeline import load_item_features, make_dataset
from twin_tf.records.record_reader import TargetColumns, read_targets
from twin_tf.records.request_batch import as_served
from twin_tf.runs.run import Run
from twin_tf.search.protocol import PoolingSearch

QUANTILES = (0.5, 0.75, 0.95)
"""Of the number of targets, where the users are taken from who have a click and a target without one."""


class Pair(NamedTuple):
    """A user's targets of which one was clicked, by their places in the columns of `read_targets`."""

    click: int
    no_click: int


def choose_targets(targets: TargetColumns, users: int) -> list[Pair]:
    """One pair a user: of the user's clicks the latest, and of the targets without a click the nearest to it in time.

    Args:
        targets: of one split.
        users: how many, of those who have both; fewer where there are fewer.

    Returns:
        Pairs of different users, by how many targets the user has: at `QUANTILES`, or evenly spaced for another number.
    """
    order = np.lexsort((targets.time, targets.user))
    ids, starts = np.unique(targets.user[order], return_index=True)
    parts = [part for part in np.split(order, starts[1:]) if len(ids) and 0 < targets.label[part].mean() < 1]
    parts.sort(key=len)  # stable: users of as many targets in rising order of their ids
    if not parts or users < 1:
        return []
    shares = QUANTILES if users == len(QUANTILES) else np.linspace(0.05, 0.95, users)
    places = dict.fromkeys(round(share * (len(parts) - 1)) for share in shares)
    return [_pair(targets, parts[place]) for place in places]


def _pair(targets: TargetColumns, part: npt.NDArray[np.int64]) -> Pair:
    clicked = targets.label[part] == 1
    click, others = part[clicked][-1], part[~clicked]
    apart = np.abs(targets.time[others] - targets.time[click])
    return Pair(int(click), int(others[np.argmin(apart)]))


def retrieved_behaviours(
    run: Run, manifest: Manifest, split: SplitName, users: int = 3, behaviours: int = 10
) -> list[JsonDict]:
    """What the search retrieves for some users' targets, and how much the attention gives each behaviour.

    Args:
        run: with the catalogue of the data in use, see `use_catalogue`.
        manifest: the data.
        split: whose targets.
        users: how many, see `choose_targets`.
        behaviours: how many of the retrieved are named, those of most weight first.

    Returns:
        One mapping a user: `user` (raw id; ids are text as `shown_ids` gives it), `history` (entries that the click
        sees), and `targets`, the click first:
        `item`, `name`, `time`, `label`, `probability`, `seen` (entries within the window that it sees), `retrieved`,
        `category` (a feature), `same_category` (of `seen` and `retrieved`, how many have the target's own), `top`
        (`item`, `name`, `time`, `count`, `weight`), and for a figure `days`, `weights` and `same` (the target's own
        category) of all retrieved, those of most weight first, and `seen_days` of all it sees. A weight is the mean
        over the heads; weights of a target add up to 1. Days are before the target. Empty for a search that pools
        behaviours and retrieves none.
    """
    model = run.model
    if isinstance(model.long_term.search, PoolingSearch):
        return []
    targets = read_targets(manifest, (split,))
    pairs = choose_targets(targets, users)
    wanted = [place for pair in pairs for place in pair]
    catalogue = _Catalogue(manifest, run.config.model.searches.sim_hard.category)
    batches = make_dataset(manifest, split, model.window, run.config.training.batch_records)
    found, called = {}, {}
    for place, record, column in _found_in(batches, targets, wanted):
        found[place] = _target(model, manifest, record, column, catalogue, behaviours)
        called[place] = catalogue.user(record)
    return [
        {
            "user": called[pair.click],
            "history": found[pair.click]["seen"],
            "targets": [found[pair.click], found[pair.no_click]],
        }
        for pair in pairs
    ]


class _Catalogue:
    """Names and categories of item rows, and ids of users."""

    def __init__(self, manifest: Manifest, category: str | None) -> None:
        self._directory = Path(manifest.directory)
        features, _ = load_item_features(self._directory, manifest.schema)
        self._encoder = FeatureEncoder.load(self._directory)
        self._user = id_feature(manifest.schema, "user")
        self.feature = default_category(manifest.schema, category)
        self._category = features[:, manifest.schema.inherent_slices[self.feature]]

    def called(self, rows: npt.NDArray[np.int64]) -> tuple[list[str], list[int | str]]:
        """Names and raw ids."""
        return item_names(self._directory, rows), shown_ids(self._directory, rows)

    def user(self, record: Batch) -> int | str:
        """The raw id of a record's user."""
        raw = int(record.user_id[0])
        if self._user is None:
            return raw
        (text,) = id_texts(self._encoder, self._user, [int(record.user[self._user.name][0])], [raw])
        return raw if text is None else text

    def same(self, rows: npt.NDArray[np.int64], row: int) -> npt.NDArray[np.bool_]:
        """Which of `rows` have the category of `row`."""
        found: npt.NDArray[np.bool_] = np.all(self._category[rows] == self._category[row], axis=1)
        return found


def _found_in(batches: Iterable[Batch], targets: TargetColumns, wanted: list[int]) -> Iterator[tuple[int, Batch, int]]:
    """Reads on until each wanted target was met: its place in `targets`, its record, its column there."""
    left = set(wanted)
    users = np.unique(targets.user[wanted])
    for batch in batches:
        if not left:
            return
        for row in np.flatnonzero(np.isin(batch.user_id.numpy(), users)).tolist():
            count = int(batch.targets.count[row])
            item, time, label = (
                column[row, :count].numpy() for column in (batch.targets.item, batch.targets.time, batch.label)
            )
            user = int(batch.user_id[row])
            for place in sorted(place for place in left if targets.user[place] == user):
                same = (item == targets.item[place]) & (time == targets.time[place]) & (label == targets.label[place])
                if same.any():
                    left.remove(place)
                    record = tf.nest.map_structure(lambda value, at=row: value[at : at + 1], batch)
                    yield place, record, int(same.argmax())


def _target(
    model: TwinModel, manifest: Manifest, record: Batch, column: int, catalogue: _Catalogue, behaviours: int
) -> JsonDict:
    """One target of a record."""
    scores = model.score(as_served(record, model.schema))
    found = scores.long_term
    width = found.retrieved.position.shape[2]
    shape = (1, int(record.targets.item.shape[1]), width)
    valid = np.broadcast_to(found.retrieved.valid.numpy(), shape)[0, column]
    position = np.broadcast_to(found.retrieved.position.numpy(), shape)[0, column][valid]
    weight = found.weights.numpy()[0, column].mean(axis=0)[valid]
    length, end = int(record.history.length[0]), int(record.targets.end[0, column])
    seen = np.arange(max(0, end - model.window), min(length, end))
    history = record.history
    rows, times, counts = (values[0].numpy() for values in (history.item, history.time, history.count))
    row, time = int(record.targets.item[0, column]), int(record.targets.time[0, column])
    day = 86_400.0 * manifest.schema.events.time.per_second
    order = np.argsort(-weight, kind="stable")
    top = position[order[:behaviours]]
    own_category = catalogue.same(rows[position[order]], row)
    (own, *called), (own_id, *ids) = catalogue.called(np.concatenate([[row], rows[top]]).astype(np.int64))
    return {
        "item": own_id,
        "name": own,
        "time": time,
        "label": int(record.label[0, column]),
        "probability": float(tf.sigmoid(scores.logit)[0, column]),
        "seen": len(seen),
        "retrieved": len(position),
        "category": catalogue.feature,
        "same_category": {"seen": int(catalogue.same(rows[seen], row).sum()), "retrieved": int(own_category.sum())},
        "top": [
            {
                "item": item,
                "name": name,
                "time": int(times[place]),
                "count": int(counts[place]),
                "weight": float(share),
            }
            for item, name, place, share in zip(ids, called, top.tolist(), weight[order].tolist(), strict=False)
        ],
        "days": _days(time, times[position[order]], day),
        "weights": [float(share) for share in weight[order]],
        "same": own_category.tolist(),
        "seen_days": _days(time, times[seen], day),
    }


def _days(time: int, times: npt.NDArray[Any], day: float) -> list[float]:
    return [round(float(value), 3) for value in (time - times) / day]
