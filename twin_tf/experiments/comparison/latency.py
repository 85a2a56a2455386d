"""What one request costs each system: a whole network in TensorFlow Serving's session, without the wire.

    python -m twin_tf.experiments.comparison.latency export --run=run --output=model --length=10000
    python -m twin_tf.experiments.comparison.latency time --model=model --length=10000 --candidates=100

The first writes the run as a served model that looks at `length` behaviours, whatever it was trained on; the second, in
a process that never imports TensorFlow, times random requests to it.
"""

import argparse
import dataclasses
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

WARM_UP = 3
SIZES = "sizes.json"


def export(run: str, output: str, length: int) -> None:
    """Writes the served model, and beside it what a request needs to know."""
    from export.saved_model.servable import Servable
    from twin_tf.core.keras_api import tf
    from twin_tf.runs.recorded_settings import load_run_config
    from twin_tf.runs.run import build_model, finished_checkpoint, load_info, schema_of

    root = Path(run)
    config, info = load_run_config(root), load_info(root)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, history_length=length))
    model, ids = build_model(root, config, info)
    tf.train.Checkpoint(model=model).restore(finished_checkpoint(root)).expect_partial()
    schema = schema_of(config)
    schema = dataclasses.replace(schema, history=dataclasses.replace(schema.history, max_length=length))
    servable = Servable(model, schema, ids, 1, 1)
    tf.saved_model.save(servable, output, signatures=servable.signatures)
    sizes: dict[str, Any] = {
        "ids": ids[2:].tolist(),
        "cross": {f.name: info.cardinalities[f.name] for f in schema.stored_cross},
        "user": {f.name: info.cardinalities[f.name] for f in schema.user},
        "context": {f.name: info.cardinalities[f.name] for f in schema.stored_context},
        "candidate": {f.name: info.cardinalities[f.name] for f in schema.requested_candidate},
        "per_second": schema.events.time.per_second,
        "clustered": schema.history.clustered,
        "parameters": int(sum(np.prod(variable.shape) for variable in model.trainable_variables)),
    }
    (Path(output) / SIZES).write_text(json.dumps(sizes), encoding="utf-8")


def request_time(model: str, length: int, candidates: int, count: int) -> dict[str, float]:
    """Median and 99th percentile of a request, in milliseconds."""
    from export.session.cpp_session import CppSession

    sizes = json.loads((Path(model) / SIZES).read_text(encoding="utf-8"))
    generator = np.random.default_rng(1)
    taken = []
    with CppSession(model) as session:
        for place in range(WARM_UP + count):
            request = _request(generator, sizes, length, candidates)
            started = time.perf_counter()
            session.run("serving_default", request)
            if place >= WARM_UP:
                taken.append(1e3 * (time.perf_counter() - started))
    found = {"p50_ms": statistics.median(taken), "p99_ms": float(np.percentile(taken, 99))}
    return {**found, "parameters": sizes["parameters"]}


def _request(
    generator: np.random.Generator, sizes: dict[str, Any], length: int, candidates: int
) -> dict[str, npt.NDArray[Any]]:
    ids, now = np.array(sizes["ids"], np.int64), 1_700_000_000 * sizes["per_second"]
    year = 365 * 86_400 * sizes["per_second"]
    request: dict[str, npt.NDArray[Any]] = {
        "history_item": generator.choice(ids, (1, length)),
        "history_time": np.sort(now - generator.integers(1, year, (1, length)), axis=1),
        "history_length": np.array([length], np.int32),
        "request_time": np.array([now], np.int64),
        "candidate_item": generator.choice(ids, (1, candidates)),
        "candidate_count": np.array([candidates], np.int32),
    }
    for name, size in sizes["cross"].items():
        request[f"history_{name}"] = generator.integers(1, size, (1, length)).astype(np.int32)
    for kind in ("user", "context"):
        for name, size in sizes[kind].items():
            request[f"{kind}_{name}"] = generator.integers(1, size, 1).astype(np.int32)
    for name, size in sizes["candidate"].items():
        request[f"candidate_{name}"] = generator.integers(1, size, (1, candidates)).astype(np.int32)
    if sizes["clustered"]:
        request["history_count"] = generator.integers(1, 21, (1, length)).astype(np.int32)
    return request


def main() -> None:
    """Exports, or times and prints JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    exporting, timing = commands.add_parser("export"), commands.add_parser("time")
    for name in ("run", "output"):
        exporting.add_argument(f"--{name}", required=True)
    timing.add_argument("--model", required=True)
    timing.add_argument("--candidates", type=int, default=100)
    timing.add_argument("--requests", type=int, default=30)
    for one in (exporting, timing):
        one.add_argument("--length", type=int, default=10_000)
    options = parser.parse_args()
    if options.command == "export":
        export(options.run, options.output, options.length)
    else:
        print(json.dumps(request_time(options.model, options.length, options.candidates, options.requests)))


if __name__ == "__main__":
    main()
