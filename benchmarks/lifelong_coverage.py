"""Which of the planted relevant behaviours a system's finalists stand for; the simulator's truth says what is relevant.

    python -m benchmarks.lifelong_coverage --run=run --prepared=clustered --raw=prepared --logs=raw --records=100

A behaviour is relevant to a target if the simulated user met both with the same interest. Of each target with an
interest, among its user's behaviours before it:

* covered: of all relevant behaviours, the share that is a finalist or a member of one (a cluster);
* precision: of the behaviours that are finalists or members of one, the share that is relevant;
* guessed: precision of a random choice, the share of relevant behaviours among all.

`--prepared` is what the run was trained on, `--raw` the same data before clustering: without clusters, the same again.
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

from beam_pipelines.cluster_inputs import item_embeddings
from beam_pipelines.cluster_records import Example, RecordClusterer
from beam_pipelines.cluster_user import HistoryClusterer, unit_vectors
from beam_pipelines.record_writer import parse_example
from twin_tf import records as keys
from twin_tf.config import ClusterConfig
from twin_tf.data import make_dataset
from twin_tf.encoders import FeatureEncoder
from twin_tf.packing import unpack
from twin_tf.progress import progress_bar
from twin_tf.records import Manifest
from twin_tf.runs import Run, load_run
from twin_tf.strict_yaml import build
from twin_tf.tfrecord import read_records

Ints = npt.NDArray[np.int64]
NONE = -1


class Shown(NamedTuple):
    """A record of the test split: what its finalists stand for, by raw behaviour.

    Attributes:
        user: id.
        targets: (time, item id, behaviours before it) of each target.
        entry: `(behaviours,)` the entry of each raw behaviour, -1 if none.
        times: of the raw behaviours.
        items: their ids.
    """

    user: int
    targets: list[tuple[int, int, int]]
    entry: Ints
    times: Ints
    items: Ints


class Truth:
    """The interest that a user met a video with."""

    def __init__(self, logs: Path) -> None:
        table = pq.read_table(logs / "truth" / "matches.parquet")
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


def raw_records(manifest: Manifest) -> Iterator[tuple[Example, Ints]]:
    """The records of the test split, and the times of their targets."""
    for path in manifest.shard_paths("test"):
        with path.open("rb") as stream:
            for serialized in read_records(stream, str(path)):
                record = parse_example(serialized)
                packed = record[keys.TARGET_TIME]
                assert isinstance(packed, bytes)
                yield record, unpack(packed, manifest.widths[keys.TARGET_TIME]) + manifest.time_origin


class Entries:
    """Which entry of a system's history each raw behaviour became.

    Args:
        run: the system.
        prepared: what it was trained on.
        raw: the same before clustering.
        source: the run whose embeddings made the clusters, if there are any.
    """

    def __init__(self, run: Run, prepared: Manifest, raw: Manifest, source: str | None) -> None:
        self._run, self._raw = run, raw
        self._clusters: RecordClusterer | None = None
        settings = ClusterConfig(recent=sys.maxsize)  # all behaviours stay as they are
        vectors = np.zeros((2, 1), np.float32)
        if prepared.clusters is not None and source is not None:
            settings = build(ClusterConfig, dict(prepared.clusters.settings), "clusters")
            vectors, _ = unit_vectors(item_embeddings(Path(source), raw)[1])
        clusterer = HistoryClusterer(vectors, FeatureEncoder.load(raw.directory), settings)
        self._records = RecordClusterer(raw.schema, raw, clusterer, settings)

    def of(self, record: Example, first: int, stop: int) -> tuple[Ints, Ints, Ints, int]:
        """Entry, time and item id of the first `stop` raw behaviours, and the number of entries.

        Args:
            record: raw.
            first: time of the first target that shares the clustering.
            stop: behaviours before the last one.
        """
        history = self._records.history(record)
        moment = int(self._records.moments(np.array([first]))[0])
        entries, place = self._records.entries(record, history, moment, stop)
        return place, history.time[:stop], self._run.item_ids[history.item[:stop]], len(entries)


def coverage(run_directory: str, prepared: str, raw: str, logs: str, source: str | None, limit: int) -> dict[str, Any]:
    """The means over all targets with an interest of up to `limit` records of the test split."""
    from twin_tf.keras_api import tf

    run, manifest, before = load_run(run_directory), Manifest.load(prepared), Manifest.load(raw)
    truth, entries = Truth(Path(logs)), Entries(run, manifest, before, source)
    by_target = {}
    for record, times in raw_records(before):
        by_target.update({(record[keys.USER_ID], time): record for time in times.tolist()})

    @tf.function(reduce_retracing=True)
    def find(batch: Any) -> Any:
        found = run.model.score(batch).long_term.finalists
        return found.position, found.valid

    total = sum(shard.records for shard in manifest.shards("test"))
    every = max(1, -(-total // limit))
    rows: list[tuple[float, float, float, int]] = []
    with progress_bar("coverage", -(-total // every)) as advance:
        for batch in make_dataset(manifest, "test", run.model.window, 1, every=every):
            position, valid = (tensor.numpy()[0] for tensor in find(batch))
            count, user = int(batch.targets.count[0]), int(batch.user_id[0])
            times, ends = batch.targets.time.numpy()[0, :count], batch.targets.end.numpy()[0, :count]
            record = by_target[user, int(times[0])]
            raw_ends = _ends(before, record, times)
            entry, moments, items, number = entries.of(record, int(times[0]), int(raw_ends.max()))
            dropped = number - int(batch.history.length[0])
            met = truth.of(user)
            interest = np.array([met.get(pair, NONE) for pair in zip(moments.tolist(), items.tolist(), strict=True)])
            wanted = run.item_ids[batch.targets.item.numpy()[0, :count]]
            for target in range(count):
                assert ends[target] + dropped == entry[raw_ends[target] - 1] + 1 or not raw_ends[target]
                mine = met.get((int(times[target]), int(wanted[target])), NONE)
                relevant = interest[: raw_ends[target]] == mine
                if mine == NONE or not relevant.any():
                    continue
                row = min(target, len(position) - 1)
                chosen = np.isin(entry[: raw_ends[target]], position[row][valid[row]] + dropped)
                hits = int((chosen & relevant).sum())
                rows.append((hits / relevant.sum(), hits / chosen.sum(), float(relevant.mean()), len(relevant)))
            advance(1, "")
    columns = np.array(rows)
    return {
        "targets": len(rows),
        **dict(zip(("covered", "precision", "guessed"), columns[:, :3].mean(axis=0).tolist(), strict=True)),
        "behaviours_mean": float(columns[:, 3].mean()),
    }


def _ends(manifest: Manifest, record: Example, times: Ints) -> Ints:
    """How many raw behaviours of the record are earlier than each target."""
    packed = record[keys.HISTORY_TIME]
    assert isinstance(packed, bytes)
    history = unpack(packed, manifest.widths[keys.HISTORY_TIME]) + manifest.time_origin
    return np.searchsorted(history, times, side="left")


def main() -> None:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("run", "prepared", "raw", "logs"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--source", help="the run whose embeddings made the clusters of --prepared")
    parser.add_argument("--records", type=int, default=100, help="records of the test split, evenly spaced")
    options = parser.parse_args()
    given = (options.run, options.prepared, options.raw, options.logs, options.source, options.records)
    print(json.dumps(coverage(*given)))


if __name__ == "__main__":
    main()
