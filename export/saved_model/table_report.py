"""What the projection table is worth, measured on the probes' real requests: coverage, work saved, loss by rounding.

coverage                share of the requests' items, behaviours and candidates, that the table knows (the paper: 97 %)
projection_saved_rows   share of the rows of eq. 6's item half and query that the table saves (the paper: 99.3 %)
projection_saved_flops  the same in multiply-adds, with the folding of the cross features, which nothing saves
table_overlap_loss      share of the exact top-K that a rounded table misses
table_score_change      largest difference that the rounding makes to a probability
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from export.saved_model.servable import Servable
from twin_tf.core.keras_api import graph, tf
from twin_tf.features.request_names import (
    CANDIDATE_COUNT,
    CANDIDATE_ITEM,
    HISTORY_ITEM,
    HISTORY_LENGTH,
    HISTORY_TIME,
    REQUEST_TIME,
    history_name,
)
from twin_tf.features.schema import FIRST_KNOWN
from twin_tf.layers import embeddings
from twin_tf.layers.gsu import share_found
from twin_tf.models.twin import TwinModel
from twin_tf.runs.run import Run

Request = Mapping[str, npt.NDArray[Any]]

_ROWS_A_CALL = 16


@dataclasses.dataclass(frozen=True)
class ProjectionWork:
    """The projections of eq. 6 in the long-term block, summed over requests.

    Attributes:
        lookups: behaviours in the search's window and candidates.
        known: those of them whose id the table knows.
        live_rows: rows that the live weights project without a table: each request's distinct behaviours by W^h, its
            candidates by W^q.
        kept_rows: rows that remain with it: the candidates, whose query is never saved, and the distinct behaviours
            that the table does not know, as `live_projection` projects them.
        live_flops: multiply-adds of `live_rows`, and of folding each cross feature's buckets to one scalar per head.
        kept_flops: those of `kept_rows`, and of the same folding.
    """

    lookups: int = 0
    known: int = 0
    live_rows: int = 0
    kept_rows: int = 0
    live_flops: int = 0
    kept_flops: int = 0

    def __add__(self, other: "ProjectionWork") -> "ProjectionWork":
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return ProjectionWork(*(mine + its for mine, its in pairs))

    @property
    def coverage(self) -> float:
        """Share of the lookups that the table answers; NaN without any."""
        return self.known / self.lookups if self.lookups else float("nan")

    @property
    def saved_rows(self) -> float:
        """Share of the live rows that the table saves; 0 without any."""
        return 1 - self.kept_rows / self.live_rows if self.live_rows else 0.0

    @property
    def saved_flops(self) -> float:
        """Share of the live multiply-adds that the table saves; 0 without any."""
        return 1 - self.kept_flops / self.live_flops if self.live_flops else 0.0


def projection_work(model: TwinModel, known_ids: npt.NDArray[np.int64], requests: Request) -> ProjectionWork:
    """Counts the projections that requests need.

    Args:
        model: the network. Where its relevance is `raw`, a table serves nothing: all rows are kept.
        known_ids: raw ids that the table knows.
        requests: inputs of `serving_default`.
    """
    known_ids = np.sort(known_ids)  # once: a catalogue of millions must not be sorted for every request
    return sum((_work_of(model, known_ids, one) for one in _single(requests)), ProjectionWork())


def _is_known(ids: npt.NDArray[np.int64], known_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    place = np.searchsorted(known_ids, ids)
    inside = place < len(known_ids)
    inside[inside] = known_ids[place[inside]] == ids[inside]
    return inside


def _work_of(model: TwinModel, known_ids: npt.NDArray[np.int64], request: Request) -> ProjectionWork:
    length = min(int(request[HISTORY_LENGTH]), len(request[HISTORY_ITEM]))
    seen = int((request[HISTORY_TIME][:length] < request[REQUEST_TIME]).sum())
    window = slice(max(0, seen - model.long_term.search.window), seen)
    behaviours = request[HISTORY_ITEM][window]
    candidates = request[CANDIDATE_ITEM][: int(request[CANDIDATE_COUNT])]
    distinct = np.unique(behaviours)
    split = model.config.relevance == "split"
    unknown = int((~_is_known(distinct, known_ids)).sum()) if split else len(distinct)
    known = int(_is_known(behaviours, known_ids).sum() + _is_known(candidates, known_ids).sum())
    live, kept = len(distinct) + len(candidates), unknown + len(candidates)
    a_row = model.relevance_embedding.width * model.config.heads * model.config.head_size
    folding = _folding(model, request, window) if split and model.config.bias else 0
    return ProjectionWork(
        len(behaviours) + len(candidates), known, live, kept, live * a_row + folding, kept * a_row + folding
    )


def _folding(model: TwinModel, request: Request, window: slice) -> int:
    """Multiply-adds of the scalar tables of one request, see `CrossEmbedding.compact`."""
    total = 0
    for feature in model.schema.cross:
        rows = model.cross_embedding.rows[feature.name]
        if rows > embeddings.LARGEST_WHOLE_TABLE and feature.derived is None:
            rows = len(np.unique(request[history_name(feature.name)][window]))
        total += rows * feature.dim * model.config.heads
    return total


def table_report(run: Run, servable: Servable, requests: Request) -> dict[str, Any]:
    """The figures of this module, with the table's type and size, for `export.json`.

    Args:
        run: trained.
        servable: of the run.
        requests: real requests, `(requests, ...)` by input name of `serving_default`.
    """
    work = projection_work(run.model, run.item_ids[FIRST_KNOWN:], requests)
    table = servable.projection.table
    loss, change = rounding_loss(run.model, servable, requests)
    return {
        "table_dtype": servable.projection.dtype.name,
        "table_bytes": int(tf.size(table)) * table.dtype.size,
        "table_overlap_loss": loss,
        "table_score_change": change,
        "coverage": work.coverage,
        "projection_saved_rows": work.saved_rows,
        "projection_saved_flops": work.saved_flops,
    }


def rounding_loss(model: TwinModel, servable: Servable, requests: Request) -> tuple[float, float]:
    """What a rounded table changes.

    Args:
        model: trained.
        servable: made of it.
        requests: inputs of `serving_default`.

    Returns:
        Of the retrieved behaviours that the float32 table finds, the share that the rounded one misses; the largest
        change of a probability. Both are 0 for a float32 table.
    """
    if servable.projection.dtype == tf.float32:
        return 0.0, 0.0
    exact, rounded = model.projection_table(), tf.convert_to_tensor(servable.projection.table)

    @graph
    def compare(request: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        batch, _ = servable.batch(model, request)
        true, found = model.score(batch, exact), model.score(batch, rounded)
        width, count = tf.shape(batch.history.item)[1], batch.targets.count
        share = share_found(found.long_term.retrieved, true.long_term.retrieved, width, count)
        wanted = true.long_term.retrieved.valid & tf.sequence_mask(count, tf.shape(true.logit)[1])[..., None]
        change = tf.abs(tf.sigmoid(true.logit) - tf.sigmoid(found.logit))
        real = tf.sequence_mask(count, tf.shape(change)[1])
        return share, tf.reduce_sum(tf.cast(wanted, tf.int32)), tf.reduce_max(tf.where(real, change, 0.0))

    missed, total, worst = 0.0, 0, 0.0
    for start in range(0, len(requests[REQUEST_TIME]), _ROWS_A_CALL):
        part = {name: tf.constant(value[start : start + _ROWS_A_CALL]) for name, value in requests.items()}
        share, wanted, change = (float(value) for value in compare(part))
        if wanted:
            missed, total = missed + (1 - share) * wanted, total + int(wanted)
        worst = max(worst, change)
    return (missed / total if total else 0.0), worst


def _single(requests: Request) -> Iterator[Request]:
    for row in range(len(requests[REQUEST_TIME])):
        yield {name: value[row] for name, value in requests.items()}
