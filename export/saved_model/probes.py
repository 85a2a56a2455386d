"""Requests with the trainer's own probabilities, which the gate replays against the exported model.

Each probe is a moment of the test split: the user's history until then, and the targets shown at that moment. The
expected probabilities come from the training graph on the training layout (whole records, many targets, live
projections, or the rows of a rounded table).
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from export.contract.probe_file import Probes, batches
from export.saved_model.servable import Servable, request_spec
from twin_tf.core.keras_api import graph, tf
from twin_tf.features import request_names as wire
from twin_tf.records.batch import Batch
from twin_tf.records.format import Manifest
from twin_tf.records.input_pipeline import batch_spec, load_item_ids, make_dataset
from twin_tf.records.request_batch import as_served
from twin_tf.runs.run import Run

Array = npt.NDArray[np.generic]
Request = dict[str, Array]


def write_probes(
    run: Run, manifest: Manifest, path: Path, table: tf.Tensor | None = None
) -> tuple[Request, npt.NDArray[np.int64]]:
    """Writes `probes.npz`.

    It holds `input/<name>` for every input of serving_default, `expected/probability`, `expected/position`, the
    trainer's retrieved, -1 where none, and `expected/label`, which of the candidates were clicked.

    Args:
        run: trained.
        manifest: prepared data with a test split.
        path: the file to write.
        table: the projection table if it is rounded: expected is then what the trainer says with it, so that the
            comparison stays as sharp as with a float32 table. What the rounding itself does is in `table_report`.

    Returns:
        The stacked requests, by input name: `(probes, ...)`, and which user each is of, counted from 0.
    """
    wanted = run.config.serving.probes
    dataset = make_dataset(manifest, "test", manifest.schema.history.max_length, run.config.training.batch_records)

    def score(batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        scores = run.model.score(as_served(batch, run.schema), table)
        found = scores.long_term.retrieved
        return tf.sigmoid(scores.logit), tf.where(found.valid, found.position, -1)

    item_ids = load_item_ids(manifest.directory)  # its rows may be more than the run's, whose graph finds them unknown
    predict = graph(score, batch_spec(manifest.schema))
    records = max(1, sum(shard.records for shard in manifest.splits["test"]))
    per_record = 2 * -(-wanted // records)  # more than needed: some records hold few distinct moments
    requests: list[Request] = []
    for batch in dataset:
        plain = tf.nest.map_structure(lambda tensor: tensor.numpy(), batch)
        probability, position = (tensor.numpy() for tensor in predict(batch))
        requests += _requests(run, item_ids, plain, probability, position, per_record)
    chosen = np.unique(np.linspace(0, len(requests) - 1, min(wanted, len(requests))).astype(int))
    stacked = _stack([requests[place] for place in chosen])
    expected = {f"expected/{name}": stacked.pop(name) for name in ("probability", "position", "label")}
    _, users = np.unique(stacked.pop("user"), return_inverse=True)
    arrays = {f"input/{name}": value for name, value in stacked.items()}
    np.savez_compressed(path, allow_pickle=False, **arrays, **expected)
    return stacked, users.astype(np.int64)


Scorer = Callable[[Probes], dict[str, Array]]
"""What the trainer's weights say to requests: `probability` float32 `(probes, C)`, and `position` int32
`(probes, C, K)`, the retrieved, -1 where none."""


def make_scorer(run: Run, servable: Servable, table: tf.Tensor | None = None) -> Scorer:
    """A `Scorer` of a run; its graph is traced once.

    Args:
        run: trained.
        servable: of it; its catalogue says what the requests' ids are.
        table: see `write_probes`.
    """

    def score(**request: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        batch, _ = servable.batch(run.model, request)
        scores = run.model.score(batch, table)
        found = scores.long_term.retrieved
        shape = tf.concat([tf.shape(scores.logit), tf.shape(found.position)[-1:]], axis=0)
        return tf.sigmoid(scores.logit), tf.broadcast_to(tf.where(found.valid, found.position, -1), shape)

    predict = graph(score).get_concrete_function(**request_spec(run.schema))

    def scored(probes: Probes) -> dict[str, Array]:
        probability = np.zeros(probes.real.shape, np.float32)
        position = np.full((*probes.real.shape, run.config.model.top_k), -1, np.int32)
        for rows, request in batches(probes):
            answer, found = (tensor.numpy() for tensor in predict(**{n: tf.constant(a) for n, a in request.items()}))
            real = probes.real[rows, : answer.shape[1]]
            probability[rows, : answer.shape[1]] = np.where(real, answer, 0)
            position[rows, : found.shape[1], : found.shape[2]] = np.where(real[..., None], found, -1)
        return {"probability": probability, "position": position}

    return scored


def rescore_probes(scorer: Scorer, probes: Probes, path: Path) -> Request:
    """Writes `probes.npz` of requests that exist already, with what these weights say to them: needs no prepared data.

    Args:
        scorer: of the weights.
        probes: the requests, and which candidates were clicked.
        path: the file to write.

    Returns:
        The requests, by input name: `(probes, ...)`.
    """
    arrays: dict[str, Array] = {f"input/{name}": value for name, value in probes.inputs.items()}
    arrays |= {f"expected/{name}": value for name, value in scorer(probes).items()}
    if "label" in probes.expected:
        arrays["expected/label"] = probes.expected["label"]
    np.savez_compressed(path, allow_pickle=False, **arrays)
    return dict(probes.inputs)


def _requests(
    run: Run, item_ids: npt.NDArray[np.int64], batch: Batch, probability: Array, position: Array, per_record: int
) -> list[Request]:
    schema, requests = run.schema, []
    for user in range(len(batch.user_id)):
        count = int(batch.targets.count[user])
        end, time = batch.targets.end[user, :count], batch.targets.time[user, :count]
        moments = np.unique(np.stack([end.astype(np.int64), time]), axis=1)
        chosen = np.unique(np.linspace(0, moments.shape[1] - 1, per_record).astype(int))
        for seen, moment in moments[:, chosen].T:
            shown = np.flatnonzero((end == seen) & (time == moment))[: run.config.serving.max_candidates]
            start = max(0, int(seen) - run.config.model.history_length)
            past = slice(start, int(seen))
            request: Request = {
                wire.HISTORY_ITEM: item_ids[batch.history.item[user, past]],
                wire.HISTORY_TIME: batch.history.time[user, past],
                wire.HISTORY_LENGTH: np.array(int(seen) - start, np.int32),
                wire.REQUEST_TIME: np.array(moment, np.int64),
                wire.CANDIDATE_ITEM: item_ids[batch.targets.item[user, shown]],
                wire.CANDIDATE_COUNT: np.array(len(shown), np.int32),
                "user": np.array(batch.user_id[user], np.int64),
                "probability": probability[user, shown],
                "label": batch.label[user, shown],
                "position": np.where(position[user, shown] >= 0, position[user, shown] - start, -1),
            }
            request.update(
                {wire.history_name(f.name): batch.history.cross[f.name][user, past] for f in schema.stored_cross}
            )
            if schema.history.clustered:
                request[wire.HISTORY_COUNT] = batch.history.count[user, past]
            of_user = {f.name: np.array(batch.user[f.name][user], np.int32) for f in schema.user}
            request.update({wire.user_name(name): index for name, index in of_user.items()})
            request.update(
                {
                    wire.context_name(f.name): batch.targets.context[f.name][user, shown[0]]
                    for f in schema.stored_context
                }
            )
            request.update(
                {
                    wire.candidate_name(f.name): batch.targets.context[f.name][user, shown]
                    for f in schema.requested_candidate
                }
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
        shape = np.maximum(1, np.max([value.shape for value in values], axis=0))
        padded = np.full((len(values), *shape), -1 if name == "position" else 0, values[0].dtype)
        for row, value in enumerate(values):
            padded[row][tuple(slice(size) for size in value.shape)] = value
        stacked[name] = padded
    return stacked
