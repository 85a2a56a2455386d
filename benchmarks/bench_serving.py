"""What one request costs a server, beside what it cannot cost less than, and beside the usual ways.

    python -m benchmarks.bench_serving            # a catalogue of 1,000,000 items
    python -m benchmarks.bench_serving --quick    # 50,000 items and fewer requests, for a look

4 heads of 32, 100 retrieved behaviours, short-term block, 3 stored cross features; random weights, histories and candidates. One
request at a time, over loopback, to `export.local_server.server` (TensorFlow Serving's own session) in a process of its own.

| figure | meaning |
|---|---|
| `p50_ms_L<L>_C<C>`, `p99_ms_L<L>_C<C>` | a Predict call of C candidates on L behaviours, as the client sees it |
| `cpu_ms_L<L>_C<C>` | the server's processor time for it, of all threads |
| `floor_ratio_L<L>_C<C>` | the same request within the session, by the sum of its unavoidable parts in the same process: gather of the rows, one score product, the library's top-k of 100 |
| `speedup_vs_raw_mhta_L10000_C1` | plain multi-head target attention's p50 by this one's |
| `v2_1e5_vs_twin_1e4_C100` | p50 of TWIN-V2 on 100,000 behaviours in as many clusters as `bench_clusters` finds, by TWIN's on 10,000 |
| `speedup_vs_repeated_L1000_C100` | p50 of the layout that repeats the history for each candidate by this one's |
"""  # noqa: E501  a table's rows cannot be broken

import argparse
import functools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.harness import ROOT, Figure, Start, figure, ratio, report, say
from export.client.client import TwinClient
from export.local_server.server import start_local_server
from export.session.cpp_session import CppSession

LENGTHS, CANDIDATES = (1_000, 10_000), (1, 100, 500)
FLOORS = ((1_000, 100), (10_000, 100))
CLUSTERS = 8_792
"""Entries of 100,000 behaviours: `bench_clusters`' 8,742 clusters at gamma 20, and the latest 50 as they are."""

FIRST_ID, NOW = 1_000, 1_700_000_000_000
RANGES = {"play_time": 11, "completion": 12, "page_position": 11, "age_group": 2_000, "device": 2_000}
"""Rows of the tables that requests carry indices of."""

WARM_UP = 3

Request = dict[str, npt.NDArray[Any]]


def make_request(generator: np.random.Generator, items: int, length: int, candidates: int, users: int = 1) -> Request:
    """A request of `users` users with whole histories, as `serving_default` takes it."""

    def some(high: int, *shape: int) -> npt.NDArray[np.int32]:
        return generator.integers(2, high, shape).astype(np.int32)

    year = 365 * 86_400_000
    request: Request = {
        "history_item": FIRST_ID + generator.integers(0, items, (users, length)),
        "history_time": np.sort(NOW - generator.integers(1, year, (users, length)), axis=1),
        "history_length": np.full(users, length, np.int32),
        "request_time": np.full(users, NOW, np.int64),
        "candidate_item": FIRST_ID + generator.integers(0, items, (users, candidates)),
        "candidate_count": np.full(users, candidates, np.int32),
    }
    for name in ("play_time", "completion", "page_position"):
        request[f"history_{name}"] = some(RANGES[name], users, length)
    for name in ("age_group", "device"):
        request[f"user_{name}"] = some(RANGES[name], users)
    return request


def repeated(request: Request) -> Request:
    """The same question with the history once for each candidate: as many users as candidates, one candidate each."""
    count = request["candidate_item"].shape[1]
    rows = {name: np.repeat(value, count, axis=0) for name, value in request.items()}
    rows["candidate_item"] = request["candidate_item"].reshape(count, 1)
    rows["candidate_count"] = np.ones(count, np.int32)
    return rows


def timed(call: Callable[[Request], Any], requests: list[Request]) -> list[float]:
    """Milliseconds of each call."""
    for request in requests[:WARM_UP]:
        call(request)
    taken = []
    for request in requests:
        started = time.perf_counter()
        call(request)
        taken.append(1e3 * (time.perf_counter() - started))
    return taken


def cpu_seconds(process: int) -> float:
    """Processor time that a process has used so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def loopback(base: Path, items: int, count: int, pairs: list[tuple[int, int]], label: str = "") -> list[Figure]:
    """p50, p99 and processor time of requests to a server."""
    generator = np.random.default_rng(7)
    found = []
    with start_local_server(base) as server, TwinClient(server.address, timeout_s=60.0) as client:
        for length, candidates in pairs:
            say(f"{label or 'Predict'} L = {length:,}, C = {candidates}")
            requests = [make_request(generator, items, length, candidates) for _ in range(count)]
            if label == "repeated":
                requests = [repeated(request) for request in requests]
            if label == "twin_v2":
                sizes = generator.integers(1, 21, (1, length), dtype=np.int32)
                requests = [{**request, "history_count": sizes} for request in requests]
            for request in requests[:WARM_UP]:
                client.predict(request)
            before = cpu_seconds(server.process.pid)
            taken = timed(client.predict, requests)
            spent = (cpu_seconds(server.process.pid) - before) / (count + WARM_UP)
            tag = f"{label + '_' if label else ''}L{length}_C{candidates}"
            how = f"one request at a time, {count} requests, {items:,} items"
            found += [
                Figure(f"p50_ms_{tag}", float(f"{statistics.median(taken):.4g}"), "ms", how),
                Figure(f"p99_ms_{tag}", float(f"{np.percentile(taken, 99):.4g}"), "ms", how),
                Figure(f"cpu_ms_{tag}", float(f"{1e3 * spent:.4g}"), "ms", "of the server, all threads"),
            ]
    return found


def floors(models: Path, items: int, count: int) -> list[Figure]:
    """The request within the session, and its unavoidable parts, in this process."""
    generator = np.random.default_rng(8)
    found = []
    with CppSession(models / "twin" / "1") as twin, CppSession(models / "parts") as parts:
        for length, candidates in FLOORS:
            say(f"parts at L = {length:,}, C = {candidates}")
            requests = [make_request(generator, items, length, candidates) for _ in range(count)]
            rows: list[Request] = [
                {"rows": generator.integers(0, items, length).astype(np.int32)} for _ in range(count)
            ]
            go: list[Request] = [{"go": np.array(0, np.int32)}] * count
            tag = f"L{length}_C{candidates}"
            measured = {"gather": timed(functools.partial(parts.run, "gather"), rows)}
            for part in ("scores", "top_k"):
                name = f"{part}_{length}_{candidates}"
                measured[part] = timed(functools.partial(parts.run, name), go)
            whole = figure(
                f"session_ms_{tag}",
                "ms",
                "the request within the session, without the wire",
                [statistics.median(timed(functools.partial(twin.run, "serving_default"), requests))],
            )
            pieces = [
                figure(f"{part}_ms_{tag}", "ms", "unavoidable part", [statistics.median(taken)])
                for part, taken in measured.items()
            ]
            total = figure(f"parts_ms_{tag}", "ms", "their sum", [sum(piece.value for piece in pieces)])
            found += [*pieces, total, whole]
            found.append(ratio(f"floor_ratio_{tag}", "x", "the request by the sum of its parts", whole, total))
    return found


def main() -> None:
    """Measures everything and writes `benchmarks/out/serving.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller catalogue and fewer requests")
    options = parser.parse_args()
    items, count = (50_000, 20) if options.quick else (1_000_000, 200)
    start = Start()
    with tempfile.TemporaryDirectory(prefix="twin-bench-") as directory:
        models = Path(directory)
        say(f"models of {items:,} items")
        command = [sys.executable, "-m", "benchmarks.serving_models", "--output", directory, "--items", str(items)]
        subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
        figures = floors(models, items, count)
        pairs = [(length, candidates) for length in LENGTHS for candidates in CANDIDATES]
        figures += loopback(models / "twin", items, count, pairs)
        figures += loopback(models / "twin_v2", items, count, [(CLUSTERS, 100)], "twin_v2")
        figures += loopback(models / "raw_mhta", items, max(count // 4, 5), [(10_000, 1)], "raw_mhta")
        figures += loopback(models / "twin", items, max(count // 10, 5), [(1_000, 100)], "repeated")
    by_name = {shown.name: shown for shown in figures}
    for name, above, below in (
        ("speedup_vs_raw_mhta_L10000_C1", "p50_ms_raw_mhta_L10000_C1", "p50_ms_L10000_C1"),
        ("v2_1e5_vs_twin_1e4_C100", f"p50_ms_twin_v2_L{CLUSTERS}_C100", "p50_ms_L10000_C100"),
        ("speedup_vs_repeated_L1000_C100", "p50_ms_repeated_L1000_C100", "p50_ms_L1000_C100"),
    ):
        figures.append(ratio(name, "x", "p50 by p50", by_name[above], by_name[below]))
    load = {"items": items, "heads": 4, "head_size": 32, "top_k": 100, "requests": count, "config": "simulated"}
    report("serving", load, figures, start)


if __name__ == "__main__":
    main()
