"""Loads with as many items as wanted for `bench_pipelines`, and the rows of its report that they give.

    python -m benchmarks.fit_loads --items=10000000 --output=raw   # int ids; --text for text ids

writes what `benchmarks.pipeline_loads` writes, but few events over a large items log, so that what grows with the
catalogue is all there is to see: reading and fitting it, encoding it, and what every worker needs of it. Every item has
a vocabulary row of its own (`product`), one of 400 categories and a price; ids lie in no order.
"""

import argparse
import copy
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from benchmarks.harness import Figure, figure, measure, of, say
from benchmarks.pipeline_loads import CATEGORIES, FIRST_SECOND, SCHEMA, SECONDS, SURFACES

EVENTS = 200_000
EVENTS_PER_USER = 200
_FACTOR = 2_654_435_761  # odd: distinct ids below 2^32, in no order
_ROWS = 1 << 20


def write_load(directory: Path, items: int, text: bool = False, events: int = EVENTS, seed: int = 1) -> None:
    """Writes a load.

    Args:
        directory: where to; created.
        items: rows of the items log.
        text: whether the ids are text, not whole numbers.
        events: rows of the events log; each names any item.
        seed: of the random numbers.
    """
    (directory / "events").mkdir(parents=True)
    rng = np.random.default_rng(seed)
    ranks = np.sort(rng.random(events))
    rows: dict[str, Any] = {
        "user_id": rng.integers(1, max(2, events // EVENTS_PER_USER), events),
        "item_id": _ids(rng.integers(0, items, events), text),
        "ts": FIRST_SECOND + (ranks * SECONDS).astype(np.int64),
        "clicked": (rng.random(events) < 0.3).astype(np.int64),
        "target": ((ranks >= 0.6) & (rng.random(events) < 0.1)).astype(np.int64),
        "surface": pa.array([f"surface-{number:02d}" for number in rng.integers(0, SURFACES, events)]),
        "dwell": np.round(np.minimum(rng.lognormal(2.0, 1.2, events), 600.0), 2),
        "discount": np.round(rng.random(events) ** 3 * 100, 1),
    }
    pq.write_table(pa.table(rows), directory / "events" / "0000.parquet", row_group_size=1 << 17)
    names = pa.array([f"category-{number:03d}" for number in range(CATEGORIES)])
    writer = None
    for start in range(0, items, _ROWS):
        places = np.arange(start, min(items, start + _ROWS))
        table = pa.table(
            {
                "item_id": _ids(places, text),
                "category": names.take(pa.array(rng.integers(0, CATEGORIES, len(places)))),
                "price": np.round(rng.lognormal(2.5, 0.9, len(places)), 2),
            }
        )
        writer = writer or pq.ParquetWriter(directory / "items.parquet", table.schema)
        writer.write_table(table, row_group_size=1 << 17)
    assert writer is not None
    writer.close()
    schema = copy.deepcopy(SCHEMA)
    if text:
        schema["events"]["item"]["type"] = schema["items"]["type"] = "string"
        schema["features"][0]["type"] = "string"
    (directory / "schema.yaml").write_text(yaml.safe_dump({"schema": schema}, sort_keys=False), encoding="utf-8")


def measure_fits(workdir: Path, runs: int, smaller: int = 1) -> list[Figure]:
    """Measures `build_examples` where nearly all there is to do is the catalogue.

    Args:
        workdir: where loads and outputs lie.
        runs: measurements of each kind.
        smaller: the loads have so many times fewer items.
    """
    figures = []
    for name, items, text in (("1e6", 10**6, False), ("1e6_text", 10**6, True), ("1e7", 10**7, False)):
        load, output = workdir / f"items_{name}", workdir / "prepared"
        write_load(load, items // smaller, text)
        command = [
            *(sys.executable, "-m", "beam_pipelines.build_examples", f"--schema={load}/schema.yaml"),
            *(f"--events={load}/events/*", f"--items={load}/items.parquet", f"--output={output}"),
        ]
        found = measure(command, output, runs)
        kind = "text" if text else "int"
        how = f"{items // smaller:,} items with {kind} ids, {EVENTS:,} events, whole command, one worker process"
        figures += [
            figure(f"fit_seconds_{name}_items", "s", how, of(found, lambda r: r.seconds)),
            figure(f"fit_cpu_seconds_{name}_items", "s", f"user and system, {how}", of(found, lambda r: r.cpu_seconds)),
            figure(f"fit_rss_mb_{name}_items", "MB", f"largest process, {how}", of(found, lambda r: r.process_mb)),
        ]
        say(f"{how}: " + ", ".join(f"{r.seconds:.1f} s {r.process_mb:.0f} MB" for r in found))
        shutil.rmtree(load)
    return figures


def _ids(places: Any, text: bool) -> pa.Array:
    ids = pa.array((places + 1) * _FACTOR % (1 << 32))
    return pc.binary_join_element_wise("item-", ids.cast(pa.string()), "") if text else ids


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fit_loads", description=__doc__.split("\n")[0])
    parser.add_argument("--items", type=int, required=True)
    parser.add_argument("--text", action="store_true", help="text ids")
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    write_load(options.output, options.items, options.text, options.events)


if __name__ == "__main__":
    main()
