"""Times training steps of one variant on prepared data, in a process of its own; `bench_train` starts it.

    python -m benchmarks.training_steps --prepared DIR --variant user_major --length 1000

Prints one JSON object: targets a second over whole batches (reading, decoding and training), peak resident memory, and,
with `--profile`, where the time of a step goes.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


from benchmarks.narrow import narrow_config
from benchmarks.training_floor import floor_of
from twin_tf.core.keras_api import tf
from twin_tf.models.twin import TwinModel
from twin_tf.records.batch import Batch
from twin_tf.records.format import Manifest
from twin_tf.records.input_pipeline import load_item_features, make_dataset
from twin_tf.training.train_step import TrainStep

VARIANTS = {
    "user_major": (),
    "repeated": (),
    "raw_mhta": ("model.relevance=raw",),
}
"""Variant -> settings; `repeated` differs in its data alone: one target a record, each with the history of its own."""

WARM_UP_STEPS = 4
PROFILED_STEPS = 8
SHOWN_OPERATIONS = 14


def measure(prepared: Path, variant: str, length: int, batch_records: int, seconds: float) -> dict[str, Any]:
    """Trains for about `seconds` and says how fast it was.

    Args:
        prepared: data of `build_examples`.
        variant: a key of `VARIANTS`.
        length: L, behaviours that a target sees.
        batch_records: records in a batch.
        seconds: of measured training.
    """
    trainer, manifest = _trainer(prepared, variant, length)
    dataset = make_dataset(manifest, "train", trainer.model.window, batch_records, shuffle_seed=1).repeat()
    batches = iter(dataset)
    for _ in range(WARM_UP_STEPS):
        trainer.step(_whole(batches, batch_records))
    steps = targets = 0
    columns = 0
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        batch = _whole(batches, batch_records)
        loss = trainer.step(batch).loss
        targets += int(tf.reduce_sum(batch.targets.count))
        columns += batch.history.item.shape[1]
        steps += 1
    elapsed = time.perf_counter() - started
    return {
        "examples_per_s": targets / elapsed,
        "step_ms": 1e3 * elapsed / steps,
        "steps": steps,
        "targets_per_step": targets / steps,
        "mean_columns": columns / steps,
        "last_loss": loss,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def profile(prepared: Path, variant: str, length: int, batch_records: int) -> dict[str, Any]:
    """Where the time of a step goes, by operation, and what the step cannot do without.

    Returns:
        `operations`: (name, milliseconds a step, calls a step), the largest first, thread time; `step_ms` of wall time
        meanwhile; `floor`: of `training_floor`.
    """
    from tensorflow.tsl.profiler.protobuf import xplane_pb2  # comes with TensorFlow, used by nothing that is shipped

    trainer, manifest = _trainer(prepared, variant, length)
    batches = iter(make_dataset(manifest, "train", trainer.model.window, batch_records, shuffle_seed=1).repeat())
    some = [_whole(batches, batch_records) for _ in range(WARM_UP_STEPS)]
    for batch in some:
        trainer.step(batch)
    with tempfile.TemporaryDirectory() as directory:
        tf.profiler.experimental.start(directory)
        started = time.perf_counter()
        for step in range(PROFILED_STEPS):
            trainer.step(some[step % len(some)])
        elapsed = time.perf_counter() - started
        tf.profiler.experimental.stop()
        (path,) = Path(directory).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(path.read_bytes())
    spent: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                node, separator, operation = name.rpartition(":")
                if separator and "::" not in name and not node.startswith("Eager") and " " not in operation:
                    spent[operation] += event.duration_ps
                    calls[operation] += 1
    rows = [(name, ps / 1e9 / PROFILED_STEPS, calls[name] / PROFILED_STEPS) for name, ps in spent.most_common()]
    shown, rest = rows[:SHOWN_OPERATIONS], rows[SHOWN_OPERATIONS:]
    shown.append(("all others", sum(ms for _, ms, _ in rest), sum(count for _, _, count in rest)))
    floor = floor_of(trainer.model, some[0])
    return {"operations": shown, "step_ms": 1e3 * elapsed / PROFILED_STEPS, "floor": floor}


def _trainer(prepared: Path, variant: str, length: int) -> tuple[TrainStep, Manifest]:
    manifest = Manifest.load(prepared)
    config = narrow_config([f"model.history_length={length}", *VARIANTS[variant]])
    features, _ = load_item_features(prepared, manifest.schema)
    model = TwinModel(manifest.schema, config.model, features, manifest.cardinalities, config.training.seed)
    return TrainStep(model, config.training), manifest


def _whole(batches: Any, batch_records: int) -> Batch:
    """The next batch that is not a remainder."""
    while True:
        batch: Batch = next(batches)
        if batch.history.item.shape[0] == batch_records:
            return batch


def main() -> None:
    """Measures as the arguments say and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prepared", type=Path, required=True)
    parser.add_argument("--variant", choices=sorted(VARIANTS), required=True)
    parser.add_argument("--length", type=int, required=True)
    parser.add_argument("--batch-records", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    arguments = (options.prepared, options.variant, options.length, options.batch_records)
    print(json.dumps(profile(*arguments) if options.profile else measure(*arguments, options.seconds)))


if __name__ == "__main__":
    main()
