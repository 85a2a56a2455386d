"""How many bytes an event costs between the reading and the writing step of `build_examples`.

    python -m benchmarks.shuffle_bytes --load=raw --shards=2000

reads the events of a load (`pipeline_loads`) as one worker does in one bundle, and prints as JSON: `events`, `bytes` of
all event batches, how many `batches` there are, and the `cpu_seconds` of reading and cutting.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from apache_beam.pvalue import TaggedOutput

from beam_pipelines.examples.encode_logs import ReadChunk
from beam_pipelines.examples.value_counts import MAX_PARTS
from beam_pipelines.raw_logs.raw_columns import log_columns
from beam_pipelines.raw_logs.read_logs import match_files, plan_chunks
from twin_tf.features.schema import load_schema


def shuffled(load: Path, shards: int) -> dict[str, Any]:
    """Reads a load; returns what the module says."""
    schema = load_schema(load / "schema.yaml")
    columns, read = (
        log_columns(schema, "events"),
        ReadChunk(schema, "events", shards, min(shards, MAX_PARTS), None, None),
    )
    events, sizes = 0, []
    begin = time.process_time()
    read.start_bundle()
    for file in match_files("events", [f"{load}/events/*"]):
        for chunk in plan_chunks(file, columns):
            for found in read.process(chunk):
                if not isinstance(found, TaggedOutput):
                    sizes.append(len(found[1]))
                elif found.tag == "report":
                    events += found.value[1].kept
    sizes += [len(windowed.value[1]) for windowed in read.finish_bundle()]
    cpu_seconds = round(time.process_time() - begin, 2)
    return {"events": events, "bytes": sum(sizes), "batches": len(sizes), "cpu_seconds": cpu_seconds}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shuffle_bytes", description=__doc__.split("\n")[0])
    parser.add_argument("--load", type=Path, required=True)
    parser.add_argument("--shards", type=int, required=True)
    options = parser.parse_args()
    print(json.dumps(shuffled(options.load, options.shards)))


if __name__ == "__main__":
    main()
