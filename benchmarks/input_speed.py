"""How fast records are read, shuffled and made batches, without a network; `bench_train` starts it as a process.

For one look: `python -m benchmarks.input_speed --prepared DIR --length 256 --batch-records 512`.
"""

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

from twin_tf.records.format import Manifest
from twin_tf.records.input_pipeline import POOL_MB, make_dataset


def measure(prepared: Path, length: int, batch_records: int, shuffle_mb: int, seconds: float) -> dict[str, Any]:
    """Reads the train split again and again for about `seconds`.

    Args:
        prepared: data of `build_examples`.
        length: L, behaviours that a target sees.
        batch_records: records in a batch.
        shuffle_mb: `training.shuffle_memory_mb`.
        seconds: of measured reading, after the first batch.

    Returns:
        Targets a second of wall and of processor time, the share of padding in the histories, seconds to the first
        batch, and by how many MB the largest resident memory lies above that before reading.
    """
    manifest = Manifest.load(prepared)
    before = _largest_mb()
    started = time.perf_counter()
    batches = iter(make_dataset(manifest, "train", length, batch_records, shuffle_seed=1, pool_mb=shuffle_mb).repeat())
    next(batches)
    first = time.perf_counter() - started
    targets = behaviours = columns = 0
    started, processor = time.perf_counter(), time.process_time()
    while time.perf_counter() - started < seconds:
        batch = next(batches)
        targets += int(batch.targets.count.numpy().sum())
        behaviours += int(batch.history.length.numpy().sum())
        columns += int(batch.history.item.shape[0]) * int(batch.history.item.shape[1])
    return {
        "targets_per_s": targets / (time.perf_counter() - started),
        "targets_per_cpu_s": targets / (time.process_time() - processor),
        "padding": 1 - behaviours / columns,
        "first_batch_s": first,
        "memory_mb": _largest_mb() - before,
    }


def _largest_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measures and prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prepared", type=Path, required=True)
    parser.add_argument("--length", type=int, required=True)
    parser.add_argument("--batch-records", type=int, required=True)
    parser.add_argument("--shuffle-mb", type=int, default=POOL_MB)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    found = measure(options.prepared, options.length, options.batch_records, options.shuffle_mb, options.seconds)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
