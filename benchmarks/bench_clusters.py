"""How fast one user's behaviours are clustered (TWIN-V2), on one core, beside flat k-means run to convergence.

    python -m benchmarks.bench_clusters           # 100,000 and 1,000,000 behaviours
    python -m benchmarks.bench_clusters --quick   # 20,000, once, for a look

Vectors 64 wide and of length 1 around 300 interests, all different; gamma 20, exponent 0.3. Every measurement is a
process of its own with one thread; flat is scikit-learn's `KMeans` with as many clusters and one random start.

| figure | meaning |
|---|---|
| `seconds_1e5`, `seconds_1e6` | of `split_recursively` |
| `rss_mb_1e5` | peak memory of the process, vectors included |
| `compression` | clusters by behaviours |
| `largest_cluster` | members |
| `time_by_n_log_n` | time at 10 times the behaviours, by 10 x the quotient of the logarithms: at most 1 if it grows as n log n |
| `speedup_vs_flat` | flat's time by this one's |
| `distortion_vs_flat` | mean squared distance from the cluster's mean, by flat's |
"""  # noqa: E501  a table's rows cannot be broken

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.harness import ROOT, RUNS, Figure, Start, figure, ratio, report, say

WIDTH, INTERESTS, NOISE, GAMMA, EXPONENT = 64, 300, 0.7, 20, 0.3
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

Plain = dict[str, Any]


def behaviours(count: int) -> npt.NDArray[np.float32]:
    """Embeddings of one user's behaviours: float32 `(count, WIDTH)`."""
    generator = np.random.default_rng(0)
    interests = generator.normal(size=(INTERESTS, WIDTH)).astype(np.float32)
    vectors = interests[generator.integers(0, INTERESTS, count)]
    vectors += NOISE * generator.normal(size=(count, WIDTH)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def distortion(vectors: npt.NDArray[np.float32], cluster: npt.NDArray[np.int64]) -> float:
    """Mean squared distance of the vectors from the mean of their cluster."""
    total = np.zeros((int(cluster.max()) + 1, vectors.shape[1]))
    np.add.at(total, cluster, vectors)
    mean = total / np.bincount(cluster)[:, None]
    return float(np.square(vectors - mean[cluster]).sum(axis=1).mean())


def recursive(count: int, compared: bool) -> Plain:
    """Clusters `count` behaviours in this process; peak memory is taken before anything is compared."""
    from beam_pipelines.clustering.recursive_kmeans import split_recursively

    vectors = behaviours(count)
    started = time.perf_counter()
    cluster = split_recursively(vectors, np.zeros(count, np.int64), gamma=GAMMA, exponent=EXPONENT)
    seconds = time.perf_counter() - started
    found = {
        "seconds": seconds,
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "clusters": int(cluster.max()) + 1,
        "largest": int(np.bincount(cluster).max()),
    }
    return found | ({"distortion": distortion(vectors, cluster)} if compared else {})


def flat(count: int, clusters: int) -> Plain:
    """Flat k-means of the same behaviours, in this process."""
    from sklearn.cluster import KMeans

    vectors = behaviours(count)
    started = time.perf_counter()
    found = KMeans(clusters, n_init=1, init="random", random_state=0).fit(vectors)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "rounds": int(found.n_iter_), "distortion": distortion(vectors, found.labels_)}


def alone(call: str) -> Plain:
    """What a call of this module finds in a process of its own, with one thread."""
    code = f"import json; from benchmarks.bench_clusters import flat, recursive; print(json.dumps({call}))"
    environment = {**os.environ, **ONE_THREAD}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    plain: Plain = json.loads(done.stdout)
    return plain


def figures(count: int, runs: int, name: str) -> list[Figure]:
    """Everything at one number of behaviours, flat k-means included."""
    say(f"{count:,} behaviours")
    found = [alone(f"recursive({count}, True)") for _ in range(runs)]
    clusters = found[0]["clusters"]
    say(f"flat k-means with {clusters:,} clusters")
    other = alone(f"flat({count}, {clusters})")
    seconds = figure(f"seconds_{name}", "s", "one core, one user", [one["seconds"] for one in found])
    flat_seconds = figure(f"flat_seconds_{name}", "s", f"{other['rounds']} rounds to convergence", [other["seconds"]])
    mine = figure("distortion", "", "mean squared distance", [found[0]["distortion"]])
    flats = figure("flat_distortion", "", "mean squared distance", [other["distortion"]])
    return [
        seconds,
        figure(f"rss_mb_{name}", "MB", "the whole process", [one["rss_mb"] for one in found]),
        figure("compression", "", f"{clusters:,} clusters by {count:,} behaviours", [clusters / count]),
        figure("largest_cluster", "", f"members; gamma is {GAMMA}", [max(one["largest"] for one in found)]),
        flat_seconds,
        ratio("speedup_vs_flat", "x", "flat's time by this one's", flat_seconds, seconds),
        ratio("distortion_vs_flat", "x", "this one's by flat's", mine, flats),
    ]


def main() -> None:
    """Measures everything and writes `benchmarks/out/clusters.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20,000 behaviours, once")
    options = parser.parse_args()
    start = Start()
    if options.quick:
        measured = figures(20_000, 1, "2e4")
    else:
        measured = figures(100_000, RUNS, "1e5")
        say("1,000,000 behaviours")
        found = [alone("recursive(1_000_000, False)") for _ in range(RUNS)]
        million = figure("seconds_1e6", "s", "one core, one user", [one["seconds"] for one in found])
        memory = figure("rss_mb_1e6", "MB", "the whole process", [one["rss_mb"] for one in found])
        growth = million.value / measured[0].value / (10 * math.log(1e6) / math.log(1e5))
        measured += [million, memory, figure("time_by_n_log_n", "x", "1e6 by 1e5, over n log n", [growth])]
    load = {"width": WIDTH, "interests": INTERESTS, "gamma": GAMMA, "exponent": EXPONENT, "threads": 1}
    report("clusters", load, measured, start)


if __name__ == "__main__":
    main()
