"""Requests with the trainer's own probabilities, which the gate replays against the exported model.

Each probe is a moment of the test split: the user's history until then, and the targets shown at that moment. The
expected probabilities come from the training graph on the training layout (whole records, many targets, live projections).
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from twin_tf.batch import Batch
from twin_tf.data import make_dataset
from twin_tf.keras_api import tf
from twin_tf.records import Manifest
from twin_tf.runs import Run

Array = npt.NDArray[np.generic]
Request = dict[str, Array]


def write_probes(run: Run, manifest: Manifest, path: Path) -> Request:
    """Writes `probes.npz`: `input/<name>` for every input of serving_default, and `expected/probability`.

    Args:
        run: trained.
        manifest: prepared data with a test split.
        path: the file to write.

    Returns:
        The stacked requests, by input name: `(probes, ...)`.
    """
    wanted = run.config.serving.probes
    dataset = make_dataset(manifest, "test", manifest.schema.history.max_length, run.config.training.batch_records)
    predict = tf.function(lambda batch: tf.sigmoid(run.model(batch)), input_signature=[dataset.element_spec])
    records = max(1, sum(shard.records for shard in manifest.splits["test"]))
    per_record = -(-wanted // records)
    requests: list[Request] = []
    for batch in dataset:
        probability = predict(batch).numpy()
        requests += _requests(run, tf.nest.map_structure(lambda tensor: tensor.numpy(), batch), probability, per_record)
        if len(requests) >= wanted:
            break
    stacked = _stack(requests[:wanted])
    expected = stacked.pop("expected")
    arrays = {f"input/{name}": value for name, value in stacked.items()}
    np.savez_compressed(path, allow_pickle=False, **arrays, **{"expected/probability": expected})
    return stacked


def _requests(run: Run, batch: Batch, probability: Array, per_record: int) -> list[Request]:
    schema, requests = run.schema, []
    for user in range(len(batch.user_id)):
        count = int(batch.targets.count[user])
        end, time = batch.targets.end[user, :count], batch.targets.time[user, :count]
        moments = np.unique(np.stack([end.astype(np.int64), time]), axis=1)
        chosen = np.unique(np.linspace(0, moments.shape[1] - 1, per_record).astype(int))
        for seen, moment in moments[:, chosen].T:
            shown = np.flatnonzero((end == seen) & (time == moment))
            start = max(0, int(seen) - run.config.model.history_length)
            past = slice(start, int(seen))
            request: Request = {
                "history_item": run.item_ids[batch.history.item[user, past]],
                "history_time": batch.history.time[user, past],
                "history_length": np.int32(int(seen) - start),
                "request_time": np.int64(moment),
                "candidate_item": run.item_ids[batch.targets.item[user, shown]],
                "candidate_count": np.int32(len(shown)),
                "expected": probability[user, shown],
            }
            request.update({f"history_{f.name}": batch.history.cross[f.name][user, past] for f in schema.stored_cross})
            request.update({f"user_{f.name}": np.int32(batch.user[f.name][user]) for f in schema.user})
            request.update(
                {f"context_{f.name}": batch.targets.context[f.name][user, shown[0]] for f in schema.stored_context}
            )
            requests.append(request)
    return requests


def _stack(requests: list[Request]) -> Request:
    """One array per name; rows of different length padded with zeros, to one column at least."""
    stacked: Request = {}
    for name in requests[0]:
        values = [request[name] for request in requests]
        if values[0].ndim == 0:
            stacked[name] = np.array(values)
            continue
        width = max(1, max(len(value) for value in values))
        padded = np.zeros((len(values), width), values[0].dtype)
        for row, value in enumerate(values):
            padded[row, : len(value)] = value
        stacked[name] = padded
    return stacked
