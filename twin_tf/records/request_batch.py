"""A request as a batch: in the served graph, and in Python without a server."""

from collections.abc import Callable, Mapping

from twin_tf.core.keras_api import tf
from twin_tf.features import request_names as wire
from twin_tf.features.schema import LONGEST_HISTORY, UNKNOWN, FeatureSchema
from twin_tf.records.batch import Batch, History, Targets

Tensors = Mapping[str, tf.Tensor]


def request_batch(
    request: Tensors, schema: FeatureSchema, rows: Callable[[tf.Tensor], tf.Tensor]
) -> tuple[Batch, tf.Tensor]:
    """The inputs of `serving_default` as a batch.

    Args:
        request: tensors by the names of `request_names`; `B` users, `L` behaviours oldest first, `C` candidates.
        schema: of the model.
        rows: raw item ids, int64 `(...)`, to item rows, int32 `(...)`.

    Returns:
        The batch, and int32 `(B,)`: how many real ids of each user are not in the catalogue.
    """
    columns, width = tf.shape(request[wire.HISTORY_ITEM])[1], tf.shape(request[wire.CANDIDATE_ITEM])[1]
    length = tf.clip_by_value(request[wire.HISTORY_LENGTH], 0, columns)
    count = tf.clip_by_value(request[wire.CANDIDATE_COUNT], 0, width)
    history_rows, candidate_rows = rows(request[wire.HISTORY_ITEM]), rows(request[wire.CANDIDATE_ITEM])
    # A fresh history may hold what happened at the very moment or after it: never seen, as in training.
    earlier = (request[wire.HISTORY_TIME] < request[wire.REQUEST_TIME][:, None]) & tf.sequence_mask(length, columns)
    unknown = _count((history_rows == UNKNOWN) & tf.sequence_mask(length, columns))
    unknown += _count((candidate_rows == UNKNOWN) & tf.sequence_mask(count, width))
    sizes = tf.ones_like(history_rows)
    if schema.history.clustered:  # what no cluster can have becomes the nearest that one can
        sizes = tf.clip_by_value(request[wire.HISTORY_COUNT], 1, LONGEST_HISTORY)
    history = History(
        item=history_rows,
        time=request[wire.HISTORY_TIME],
        cross={feature.name: request[wire.history_name(feature.name)] for feature in schema.stored_cross},
        length=length,
        count=sizes,
    )
    targets = Targets(
        item=candidate_rows,
        time=request[wire.REQUEST_TIME][:, None],
        end=_count(earlier)[:, None],
        context={feature.name: request[wire.context_name(feature.name)][:, None] for feature in schema.stored_context},
        count=count,
    )
    user = {feature.name: request[wire.user_name(feature.name)] for feature in schema.user}
    nothing = tf.zeros([0, 0])
    return Batch(history, targets, user, tf.zeros_like(request[wire.REQUEST_TIME]), nothing, nothing), unknown


def _count(flags: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.cast(flags, tf.int32), axis=1)
