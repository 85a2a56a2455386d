"""Which of the planted relevant behaviours a system's search retrieves: simulated logs know, real ones do not.

    python -m twin_tf.experiments.comparison.ground_truth --run=run --prepared=prepared --truth=raw/truth --records=200

A behaviour is relevant to a target if the simulated user met both with the same interest. Of each target with an
interest and a relevant behaviour among its latest `model.history_length`, whatever of them the search looks at:

* recall: of all relevant behaviours, the share that is retrieved;
* precision: of the behaviours that are retrieved, the share that is relevant;
* guessed: precision of a random choice, the share of relevant behaviours among all.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from twin_tf.core.errors import UserError
from twin_tf.core.files import JsonDict
from twin_tf.core.keras_api import graph
from twin_tf.models.twin import TwinModel
from twin_tf.records.batch import Batch
from twin_tf.records.format import Manifest
from twin_tf.records.input_pipeline import make_dataset
from twin_tf.runs.run import Run, load_run
from twin_tf.search.protocol import PoolingSearch

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

NONE = -1
"""The interest of an accident."""


class Truth:
    """The interest that a user met a video with; `directory` is `truth` of simulated logs."""

    def __init__(self, directory: Path) -> None:
        table = pq.read_table(directory / "matches.parquet")
        self._columns = [table[name].to_numpy().astype(np.int64) for name in ("user_id", "time", "video_id")]
        self._interest = table["interest"].to_numpy().astype(np.int64)
        users = self._columns[0]
        order = np.argsort(users, kind="stable")
        ids, first = np.unique(users[order], return_index=True)
        self._rows = dict(zip(ids.tolist(), np.split(order, first[1:]), strict=True))

    def of(self, user: int) -> Mapping[tuple[int, int], int]:
        """(time, video) -> interest."""
        rows = self._rows.get(user, np.zeros(0, np.int64))
        pairs = zip(*(column[rows].tolist() for column in self._columns[1:]), strict=True)
        return dict(zip(pairs, self._interest[rows].tolist(), strict=True))


def interests(met: Mapping[tuple[int, int], int], times: Ints, items: Ints) -> Ints:
    """The interest of each (time, item id), `NONE` where there is none."""
    return np.array([met.get(pair, NONE) for pair in zip(times.tolist(), items.tolist(), strict=True)], np.int64)


class Shares:
    """Means over targets."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, float, float, int]] = []

    def add(self, relevant: Flags, chosen: Flags) -> None:
        """One target's behaviours, oldest first; nothing relevant to it, nothing counted."""
        if relevant.any():
            hits = int((chosen & relevant).sum())
            precision = hits / chosen.sum() if chosen.any() else 0.0
            self._rows.append((hits / relevant.sum(), precision, float(relevant.mean()), len(relevant)))

    def to_plain(self) -> JsonDict:
        """The means, and of how many targets they are; no means of none."""
        names = ("recall", "precision", "guessed", "behaviours_mean")
        means = np.array(self._rows).mean(axis=0).tolist() if self._rows else []
        return {"targets": len(self._rows), **dict(zip(names, means, strict=False))}


class Looked(NamedTuple):
    """A record and what a system's search retrieves.

    Attributes:
        user: id.
        times: `(n,)` of the behaviours, oldest first.
        items: `(n,)` their ids.
        target_times: `(c,)`.
        target_items: `(c,)` ids.
        ends: `(c,)` how many behaviours each target has before it.
        chosen: of each target, the places of the behaviours that are retrieved.
    """

    user: int
    times: Ints
    items: Ints
    target_times: Ints
    target_items: Ints
    ends: Ints
    chosen: list[Ints]


def look(run: Run, manifest: Manifest, records: int, width: int) -> Iterator[Looked]:
    """About `records` records of the test split, evenly spaced, with `width` of the latest behaviours at least."""
    model: TwinModel = run.model

    @graph
    def find(batch: Batch) -> Any:
        found = model.score(batch).long_term.retrieved
        return found.position, found.valid

    total = sum(shard.records for shard in manifest.shards("test"))
    every = max(1, -(-total // records))
    for batch in make_dataset(manifest, "test", width, 1, every=every):
        position, valid = (tensor.numpy()[0] for tensor in find(batch))
        seen, count = int(batch.history.length[0]), int(batch.targets.count[0])
        rows = [min(target, len(position) - 1) for target in range(count)]
        yield Looked(
            user=int(batch.user_id[0]),
            times=batch.history.time.numpy()[0, :seen],
            items=run.item_ids[batch.history.item.numpy()[0, :seen]],
            target_times=batch.targets.time.numpy()[0, :count],
            target_items=run.item_ids[batch.targets.item.numpy()[0, :count]],
            ends=batch.targets.end.numpy()[0, :count],
            chosen=[position[row][valid[row]].astype(np.int64) for row in rows],
        )


def recall_of(run: Run, manifest: Manifest, truth: Truth, records: int) -> JsonDict | None:
    """The shares of a system, among the latest `model.history_length`; None for one that chooses no behaviours."""
    if isinstance(run.model.long_term.search, PoolingSearch):
        return None
    shares, width = Shares(), run.model.config.history_length
    for one in look(run, manifest, records, width):
        met = truth.of(one.user)
        interest = interests(met, one.times, one.items)
        wanted = interests(met, one.target_times, one.target_items)
        for mine, end, places in zip(wanted.tolist(), one.ends.tolist(), one.chosen, strict=True):
            if mine != NONE:
                chosen = np.zeros(len(interest), np.bool_)
                chosen[places] = True
                seen = slice(max(0, end - width), end)
                shares.add(interest[seen] == mine, chosen[seen])
    return shares.to_plain()


def main() -> None:
    """Prints the shares as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("run", "prepared", "truth"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--records", type=int, default=200, help="records of the test split, evenly spaced")
    options = parser.parse_args()
    # The comparison has checked the files.
    run, manifest = load_run(options.run), Manifest.load(options.prepared, verify=False)
    print(json.dumps(recall_of(run, manifest, Truth(Path(options.truth)), options.records)))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
