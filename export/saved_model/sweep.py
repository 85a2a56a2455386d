"""Requests that reach every table, with the trainer's own answers; see `export.contract.sweep_file`."""

from collections.abc import Mapping

import numpy as np

from export.contract.probe_file import Probes
from export.contract.sweep_file import Sweep, sampled
from export.contract.tensors import Array
from export.saved_model.probes import Request, Scorer
from export.saved_model.servable import Servable
from twin_tf.core.keras_api import tf
from twin_tf.features import request_names as wire
from twin_tf.features.schema import FIRST_KNOWN, FeatureSchema
from twin_tf.runs.run import Run

COLUMNS = 32
"""Behaviours of each request."""
_STEP_S = 25 * 3600
"""Between two requests: so many of them fall into every hour of the day, and so few into every day of the week."""


def make_sweep(run: Run, servable: Servable, scorer: Scorer, requests: Request, users: Array) -> Sweep:
    """The sweep of a model.

    Args:
        run: trained.
        servable: of it.
        scorer: of both.
        requests: real ones, `(probes, ...)` by input name: the times come from the one with the longest history.
        users: which user each of them is of.

    Hours, days and ages are not in a request: request times go on in steps of 25 hours, ages take every bucket.
    """
    rows = _items(run)
    ids = run.item_ids[rows]
    inputs = _inputs(run, requests, ids)
    expected = scorer(Probes(inputs, {}))
    projections = servable.projection.rounded(run.model.project_items(tf.constant(rows, tf.int32))).numpy()
    return Sweep(Probes(inputs, expected), ids, projections, users)


def _items(run: Run) -> Array:
    """Rows of the catalogue that have, between them, values from all over each inherent vocabulary."""
    features = run.model.item_embedding.item_features.numpy()[FIRST_KNOWN:]
    chosen = [sampled(len(features))]
    for columns in run.schema.inherent_slices.values():
        values, first = np.unique(features[:, columns], return_index=True)
        chosen.append(first[sampled(len(values))] // (columns.stop - columns.start))
    return np.unique(np.concatenate(chosen)) + FIRST_KNOWN


def _inputs(run: Run, requests: Request, ids: Array) -> dict[str, Array]:
    """As many requests as the largest sample has values; each behaviour, candidate, user and context takes the next."""
    schema, sizes = run.schema, run.info.cardinalities
    of_requests = (*schema.user, *schema.context, *schema.requested_candidate, *schema.cross)
    count = max([1, *(len(sampled(sizes[f.name])) for f in of_requests)])
    columns = min(COLUMNS, run.config.model.history_length)
    candidates = -(-len(ids) // count)
    real = int(np.argmax(requests[wire.HISTORY_LENGTH]))
    length = max(1, int(requests[wire.HISTORY_LENGTH][real]))

    def behaviours(name: str) -> Array:
        return np.tile(np.resize(requests[name][real, :length], columns), (count, 1))

    moments = requests[wire.REQUEST_TIME][real] + _STEP_S * schema.events.time.per_second * np.arange(count)
    seen = requests[wire.REQUEST_TIME][real] - requests[wire.HISTORY_TIME][real, :length]
    ages = np.sort(np.resize(np.concatenate([_ages(schema), seen]), columns))[::-1]
    place = np.arange(count)[:, None] + np.arange(columns)[None, :]
    inputs: dict[str, Array] = {
        wire.HISTORY_ITEM: np.resize(ids, (count, columns)),
        wire.HISTORY_TIME: moments[:, None] - ages,
        wire.HISTORY_LENGTH: np.full(count, columns, np.int32),
        wire.REQUEST_TIME: moments,
        wire.CANDIDATE_ITEM: np.resize(ids, (count, candidates)),
        wire.CANDIDATE_COUNT: np.full(count, candidates, np.int32),
    }
    if schema.history.clustered:
        inputs[wire.HISTORY_COUNT] = np.maximum(1, behaviours(wire.HISTORY_COUNT))
    for feature in schema.stored_cross:
        inputs[wire.history_name(feature.name)] = _taken(sizes, feature.name, place)
    shown = np.arange(count)[:, None] + np.arange(candidates)[None, :]
    for feature in schema.requested_candidate:
        inputs[wire.candidate_name(feature.name)] = _taken(sizes, feature.name, shown)
    for name, features in ((wire.user_name, schema.user), (wire.context_name, schema.stored_context)):
        inputs |= {name(feature.name): _taken(sizes, feature.name, place[:, 0]) for feature in features}
    return inputs


def _ages(schema: FeatureSchema) -> Array:
    """int64: an age in every bucket of every feature that is one, in the unit of the times."""
    ages: list[float] = []
    for feature in schema.cross:
        if feature.derived == "age":
            edges = [0.0, *(feature.encoding_or_fail.boundaries or ())]
            ages += [(low + high) / 2 for low, high in zip(edges, [*edges[1:], 2 * edges[-1] + 2], strict=True)]
    return np.array([age * schema.events.time.per_second for age in ages], np.int64)


def _taken(sizes: Mapping[str, int], name: str, place: Array) -> Array:
    values = sampled(sizes[name])
    return values[place % len(values)].astype(np.int32)
