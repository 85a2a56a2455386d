"""Recall of the planted relevant behaviours, alone or in clusters; the simulator's truth says what is relevant.

    python -m benchmarks.lifelong_coverage --run=run --prepared=clustered --raw=prepared --logs=raw --records=100

As `twin_tf.experiments.comparison.ground_truth`, but of all behaviours before a target, in the window or not, and a
behaviour counts as found if it is a retrieved behaviour or a member of one (a cluster).

`--prepared` is what the run was trained on, `--raw` the same data before clustering: without clusters, the same again.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_pipelines.clustering.cluster_inputs import item_embeddings
from beam_pipelines.clustering.cluster_records import Example, RecordClusterer
from beam_pipelines.clustering.cluster_user import HistoryClusterer, unit_vectors
from beam_pipelines.io.record_writer import parse_example
from twin_tf.config import ClusterConfig
from twin_tf.core.dataclass_yaml import build
from twin_tf.core.progress import progress_bar
from twin_tf.core.tfrecord import read_records
from twin_tf.experiments.comparison.ground_truth import NONE, Shares, Truth, interests, look
from twin_tf.features.encoders import FeatureEncoder
from twin_tf.records import format as keys
from twin_tf.records.format import Manifest
from twin_tf.records.packing import unpack
from twin_tf.runs.run import Run, load_run

Ints = npt.NDArray[np.int64]


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
        timestamp = int(self._records.moments(np.array([first]))[0])
        entries, place = self._records.entries(record, history, timestamp, stop)
        return place, history.time[:stop], self._run.item_ids[history.item[:stop]], len(entries)


def coverage(run_directory: str, prepared: str, raw: str, logs: str, source: str | None, limit: int) -> dict[str, Any]:
    """The means over all targets with an interest of up to `limit` records of the test split."""
    run, manifest, before = load_run(run_directory), Manifest.load(prepared), Manifest.load(raw)
    truth, entries = Truth(Path(logs) / "truth"), Entries(run, manifest, before, source)
    by_target = {}
    for record, times in raw_records(before):
        by_target.update({(record[keys.USER_ID], time): record for time in times.tolist()})

    total = sum(shard.records for shard in manifest.shards("test"))
    shares = Shares()
    with progress_bar("coverage", min(total, limit)) as advance:
        for one in look(run, manifest, limit, run.model.window):
            first = int(one.target_times[0])
            record = by_target[one.user, first]
            raw_ends = _ends(before, record, one.target_times)
            entry, timestamps, items, number = entries.of(record, first, int(raw_ends.max()))
            dropped = number - len(one.times)
            met = truth.of(one.user)
            interest = interests(met, timestamps, items)
            wanted = interests(met, one.target_times, one.target_items)
            for target, (mine, stop) in enumerate(zip(wanted.tolist(), raw_ends.tolist(), strict=True)):
                assert one.ends[target] + dropped == entry[stop - 1] + 1 or not stop
                if mine != NONE:
                    shares.add(interest[:stop] == mine, np.isin(entry[:stop], one.chosen[target] + dropped))
            advance(1, "")
    return shares.to_plain()


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
