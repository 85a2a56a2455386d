"""The exported model's probes, sent to a running server through the client: are the served scores the trainer's?"""

import time
from pathlib import Path
from typing import Any

import numpy as np

from export.client.client import TwinClient
from export.contract.probe_file import PROBES_FILE, load_probe_file
from export.contract.tensors import Array
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.features.request_names import CANDIDATE_COUNT, CANDIDATE_ITEM, HISTORY_LENGTH, of_candidates

WARM_REQUESTS = 20


def load_probes(model: Path) -> tuple[dict[str, Array], Array, Array]:
    """Inputs by name, expected probabilities `(probes, C)` and the trainer's retrieved `(probes, C, K)`, -1: none.

    Raises:
        ConfigError: the model directory has no probes.
    """
    if not (model / PROBES_FILE).is_file():
        raise ConfigError(f"{model} has no probes: {Path(PROBES_FILE).name} is missing; export it again")
    probes = load_probe_file(model)
    return dict(probes.inputs), probes.expected["probability"], probes.expected["position"]


def replay(client: TwinClient, model: Path) -> dict[str, Any]:
    """Sends every probe as a request of its own, one after the other.

    Args:
        client: connected to a server of this model.
        model: the exported model directory.

    Returns:
        `served_minus_trained_max`; `p50_ms` and `p99_ms` of a Predict call as the client sees it, and all
        `latencies_ms`;
        `overlap_at_100`: of the trainer's retrieved, the share (in percent) that the server's `retrieve` finds;
        `median_history`, `median_candidates`, `requests`.

    Raises:
        ConfigError: no probes.
        export.contract.errors.ServingError: the server does not answer.
    """
    inputs, expected, retrieved = load_probes(model)
    worst, hits, wanted = 0.0, 0, 0
    latencies: list[float] = []
    for row in range(len(expected)):
        request = one_request(inputs, row)
        for _ in range(WARM_REQUESTS if row == 0 else 0):
            client.predict(request)
        started = time.perf_counter()
        answer = client.predict(request)
        latencies.append((time.perf_counter() - started) * 1e3)
        count = request[CANDIDATE_ITEM].shape[1]
        worst = max(worst, float(np.abs(answer.probability[0] - expected[row, :count]).max()))
        found = client.call("retrieve", request, ["position"])["position"][0]
        for served, trained in zip(found, retrieved[row, :count], strict=True):
            relevant = trained[trained >= 0]
            hits += len(np.intersect1d(served, relevant))
            wanted += len(relevant)
    return {
        "requests": len(expected),
        "served_minus_trained_max": worst,
        "overlap_at_100": 100.0 * hits / wanted if wanted else float("nan"),
        "p50_ms": float(np.percentile(latencies, 50)),
        "p99_ms": float(np.percentile(latencies, 99)),
        "median_history": float(np.median(inputs[HISTORY_LENGTH])),
        "median_candidates": float(np.median(inputs[CANDIDATE_COUNT])),
        "latencies_ms": latencies,
    }


def one_request(inputs: dict[str, Array], row: int) -> dict[str, Array]:
    """One user of many, with the batch dimension, cut to the own lengths (one column at least)."""
    request = {name: value[row : row + 1] for name, value in inputs.items()}
    length = max(1, int(request[HISTORY_LENGTH][0]))
    count = max(1, int(request[CANDIDATE_COUNT][0]))
    for name, value in request.items():
        if value.ndim == 2:
            request[name] = value[:, : count if of_candidates(name) else length]
    return request
