"""A request as a batch: in the served graph, and in Python without a server.

Wrong values are put right and counted, never refused: a server joins requests, and one that fails would fail its batch.
"""

from collections.abc import Callable, Mapping

from twin_tf.core.keras_api import tf
from twin_tf.features import request_names as wire
from twin_tf.features.encoders import served_index
from twin_tf.features.schema import LONGEST_HISTORY, PADDING, UNKNOWN, FeatureSchema
from twin_tf.records.batch import Batch, History, Targets

Tensors = Mapping[str, tf.Tensor]

FARTHEST_TIME = 1 << 62
"""Times lie within it on both sides of 0, so that no difference of two overflows."""


def request_batch(
    request: Tensors,
    schema: FeatureSchema,
    rows: Callable[[tf.Tensor], tf.Tensor],
    index_rows: Mapping[str, tf.Tensor | int],
    counted: Callable[[tf.Tensor], Mapping[str, tf.Tensor]] = lambda rows: {},
) -> tuple[Batch, dict[str, tf.Tensor]]:
    """The inputs of `serving_default` as a batch.

    Args:
        request: tensors by the names of `request_names`; `B` users, `L` behaviours oldest first, `C` candidates.
        schema: of the model.
        rows: raw item ids, int64 `(...)`, to item rows, int32 `(...)`.
        index_rows: input that holds indices -> how many rows its table has.
        counted: item rows -> feature counted of items -> what the catalogue says; taken where a request says 0.

    Returns:
        The batch, and counts by output, int32 `(B,)`: `unknown_items`, how many real ids of each user are not in the
        catalogue; `adjusted`, how many other values of each user were not what a request may hold.
    """
    sound, adjusted = _adjusted(request, schema, index_rows)
    history_item, candidate_item = sound[wire.HISTORY_ITEM], sound[wire.CANDIDATE_ITEM]
    length, count = sound[wire.HISTORY_LENGTH], sound[wire.CANDIDATE_COUNT]
    behaviour, candidate = (
        tf.sequence_mask(real, tf.shape(ids)[1]) for real, ids in ((length, history_item), (count, candidate_item))
    )
    history_rows, candidate_rows = rows(history_item), rows(candidate_item)
    # A fresh history may hold what happened at the very moment or after it: never seen, as in training.
    earlier = (sound[wire.HISTORY_TIME] < sound[wire.REQUEST_TIME][:, None]) & behaviour
    unknown = _count((history_rows == UNKNOWN) & behaviour) + _count((candidate_rows == UNKNOWN) & candidate)
    history = History(
        item=history_rows,
        time=sound[wire.HISTORY_TIME],
        cross={feature.name: sound[wire.history_name(feature.name)] for feature in schema.stored_cross},
        length=length,
        count=sound[wire.HISTORY_COUNT] if schema.history.clustered else tf.ones_like(history_rows),
    )
    targets = Targets(
        item=candidate_rows,
        time=sound[wire.REQUEST_TIME][:, None],
        end=_count(earlier)[:, None],
        context={
            **{feature.name: sound[wire.context_name(feature.name)][:, None] for feature in schema.stored_context},
            **_of_candidates(sound, schema, counted(candidate_rows)),
            **_served_context(schema),
        },
        count=count,
    )
    user = {feature.name: sound[wire.user_name(feature.name)] for feature in schema.user}
    nothing = tf.zeros([0, 0])
    batch = Batch(history, targets, user, tf.zeros_like(sound[wire.REQUEST_TIME]), nothing, nothing)
    return batch, {"unknown_items": unknown, "adjusted": adjusted}


def as_served(batch: Batch, schema: FeatureSchema) -> Batch:
    """A batch of records as a server scores it: what is unknown when ranking has the value that it is served with.

    Args:
        batch: whose targets say what was logged.
        schema: of the model.
    """
    targets = batch.targets
    return batch._replace(targets=targets._replace(context={**targets.context, **_served_context(schema)}))


@tf.autograph.experimental.do_not_convert  # whoever traces this: the encoder is plain Python
def _of_candidates(sound: Tensors, schema: FeatureSchema, counted: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Candidate feature -> index `(B, C)`; one counted of items is the catalogue's where the request leaves it out."""
    found = {feature.name: sound[wire.candidate_name(feature.name)] for feature in schema.requested_candidate}
    return found | {name: tf.where(found[name] == PADDING, index, found[name]) for name, index in counted.items()}


def _served_context(schema: FeatureSchema) -> dict[str, tf.Tensor]:
    """Candidate feature with `serve_as` -> its index, int32 `(1, 1)`."""
    found = {feature.name: served_index(feature, schema) for feature in schema.candidate}
    return {name: tf.constant([[index]], tf.int32) for name, index in found.items() if index is not None}


def _adjusted(
    request: Tensors, schema: FeatureSchema, index_rows: Mapping[str, tf.Tensor | int]
) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """The request with every value in its bounds, and how many real values of each user were not, int32 `(B,)`."""
    sound = dict(request)
    for name, of in ((wire.HISTORY_LENGTH, wire.HISTORY_ITEM), (wire.CANDIDATE_COUNT, wire.CANDIDATE_ITEM)):
        sound[name] = tf.clip_by_value(request[name], 0, tf.shape(request[of])[1])
    for name, known in index_rows.items():
        index = request[name]
        sound[name] = tf.where((index >= 0) & (index < known), index, UNKNOWN)
    if schema.history.clustered:  # what no cluster can have becomes the nearest that one can
        sound[wire.HISTORY_COUNT] = tf.clip_by_value(request[wire.HISTORY_COUNT], 1, LONGEST_HISTORY)
    for name in (wire.HISTORY_TIME, wire.REQUEST_TIME):
        sound[name] = tf.clip_by_value(request[name], tf.constant(-FARTHEST_TIME, tf.int64), FARTHEST_TIME)
    behaviour, candidate = (
        tf.sequence_mask(sound[count], tf.shape(request[of])[1])
        for count, of in ((wire.HISTORY_LENGTH, wire.HISTORY_ITEM), (wire.CANDIDATE_COUNT, wire.CANDIDATE_ITEM))
    )
    sound[wire.HISTORY_TIME] = _not_falling(sound[wire.HISTORY_TIME], behaviour)
    adjusted = tf.zeros_like(sound[wire.HISTORY_LENGTH])
    for name, value in sound.items():
        if value is not request[name]:
            changed, real = value != request[name], candidate if wire.of_candidates(name) else behaviour
            adjusted += tf.cast(changed, tf.int32) if wire.rank_of(name) == 1 else _count(changed & real)
    return sound, adjusted


def _not_falling(time: tf.Tensor, behaviour: tf.Tensor) -> tf.Tensor:
    """Times `(B, L)`, each as late as the latest before it; nothing is computed where real ones do not fall."""
    falls = (time[:, 1:] < time[:, :-1]) & behaviour[:, 1:]

    def risen() -> tf.Tensor:
        """The running maximum, over spans that double."""
        return tf.while_loop(
            lambda span, _: span < tf.shape(time)[1],
            lambda span, latest: (
                2 * span,
                tf.concat([latest[:, :span], tf.maximum(latest[:, span:], latest[:, :-span])], axis=1),
            ),
            (tf.constant(1), time),
            shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, None])),
        )[1]

    return tf.cond(tf.reduce_any(falls), risen, lambda: time)


def _count(flags: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.cast(flags, tf.int32), axis=1)
