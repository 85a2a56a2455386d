"""What a caller asks and gets: one user's history and candidates as NumPy arrays, or a batch of users.

Names, dtypes and shapes are those of the signature `serving_default`; a single user may leave out the batch dimension.
"""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from export.client.request_values import check_values, latest_behaviours
from export.contract.tensors import Array
from twin_tf.features.request_names import (
    CANDIDATE_COUNT,
    CANDIDATE_ITEM,
    HISTORY_COUNT,
    HISTORY_ITEM,
    HISTORY_LENGTH,
    HISTORY_TIME,
    PREFIXES,
    REQUEST_TIME,
    candidate_name,
    dtype_of,
    of_candidates,
    of_history,
    rank_of,
)

if TYPE_CHECKING:
    from twin_tf.features.schema import FeatureSchema

_REQUIRED = (HISTORY_ITEM, HISTORY_TIME, REQUEST_TIME, CANDIDATE_ITEM)
_ITEMS = (HISTORY_ITEM, CANDIDATE_ITEM)
_COUNTS = {HISTORY_LENGTH: HISTORY_ITEM, CANDIDATE_COUNT: CANDIDATE_ITEM}
_NAMES = (*_REQUIRED, *_COUNTS, HISTORY_COUNT)


@dataclasses.dataclass(frozen=True)
class ClickRequest:
    """One user (arrays without the batch dimension) or B users (with it).

    Attributes:
        history_item: int64 `(B, L)`, raw item ids of the behaviours, oldest first; text if the schema says so.
        history_time: int64 `(B, L)`, their times in the unit of the logs.
        request_time: int64 `(B,)`, the moment the candidates are shown.
        candidate_item: int64 `(B, C)`, raw item ids to score; text if the schema says so.
        history_length: int32 `(B,)`, how many behaviours of each row are real; all if None.
        history_count: int32 `(B, L)`, how many behaviours each entry stands for, if the model was trained on clusters.
        candidate_count: int32 `(B,)`, how many candidates of each row are real; all if None.
        cross: stored cross feature -> int32 `(B, L)` indices, as `FeatureEncoder.encode` gives them.
        user: user feature -> int32 `(B,)` indices.
        context: stored context feature -> int32 `(B,)` indices.
        candidate: candidate feature -> int32 `(B, C)` indices; not those that the schema serves as one value.
    """

    history_item: Any
    history_time: Any
    request_time: Any
    candidate_item: Any
    history_length: Any = None
    history_count: Any = None
    candidate_count: Any = None
    cross: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    user: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    context: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    candidate: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_inputs(self) -> dict[str, Any]:
        """The mapping of signature names to values."""
        inputs = {name: getattr(self, name) for name in _NAMES if getattr(self, name) is not None}
        for prefix, features in zip(PREFIXES, (self.cross, self.user, self.context, self.candidate), strict=True):
            inputs |= {f"{prefix}{name}": value for name, value in features.items()}
        return inputs


@dataclasses.dataclass(frozen=True)
class ClickResponse:
    """The answer to a `ClickRequest`; always with the batch dimension.

    Attributes:
        probability: float32 `(B, C)`, exactly 0 past each row's `candidate_count`.
        weights_version: int64 `(B,)`, which training the weights come from.
        table_version: int64 `(B,)`, when the projection table was computed.
        unknown_items: int32 `(B,)`, ids the model does not know.
        behaviours_seen: int32 `(B,)`, how many behaviours the model may look at: those before `request_time`, of them
            the latest `history.max_length`.
        adjusted: int32 `(B,)`, how many values of each user the graph had to adjust, for example an index beyond its
            vocabulary; None where the version is older than this output.
        model_version: the served version directory.
        contract: int64 `(B,)`, what the weights take indices for, see `export.client.contract_check`; None from models
            that were exported before there were contracts.
    """

    probability: Array
    weights_version: Array
    table_version: Array
    unknown_items: Array
    behaviours_seen: Array
    adjusted: Array | None
    model_version: int
    contract: Array | None = None


def normalise(request: ClickRequest | Mapping[str, Any], schema: "FeatureSchema | None" = None) -> dict[str, Array]:
    """Checks a request and gives every input its dtype and rank.

    Args:
        request: a `ClickRequest`, or a mapping with the signature's input names. `history_length` and
            `candidate_count` default to the full width; a history of width 0 becomes one padded position of length 0.
        schema: the model's; says whether item ids are text, to be hashed as the pipeline hashed them, and whether
            `history_count` is needed, which then defaults to 1, and which features are counted of items, which default
            to 0: what the server's catalogue says. A history longer than its `max_length` is cut to the
            latest behaviours.

    Returns:
        Input name -> array with the batch dimension.

    Raises:
        ValueError: a missing or unknown name, a value that is no whole number, shapes that do not fit together, or
            values that the graph would have to adjust (`request_values.check_values`).

    Warns:
        UnseenBehavioursWarning: behaviours after `request_time`.
    """
    values = dict(request.to_inputs() if isinstance(request, ClickRequest) else request)
    missing = [name for name in _REQUIRED if name not in values]
    if missing:
        raise ValueError(f"the request lacks {', '.join(missing)}")
    for name in _ITEMS:
        values[name] = _hashed(name, values[name], schema)
    if schema is not None and schema.history.clustered:
        values.setdefault(HISTORY_COUNT, np.ones(np.shape(values[HISTORY_ITEM]), np.int32))
    if schema is not None:  # 0: as the catalogue of the server has it
        nothing = np.zeros(np.shape(values[CANDIDATE_ITEM]), np.int32)
        values = {candidate_name(feature.name): nothing for feature in schema.counted_item} | values
    arrays = {name: _batched(name, value) for name, value in values.items()}
    users = len(arrays[CANDIDATE_ITEM])
    for name, array in arrays.items():
        if len(array) != users:
            raise ValueError(
                f"{name} has {len(array)} rows, candidate_item {users}; every input needs one row per user"
            )
    width = arrays[HISTORY_ITEM].shape[1]
    for name, array in arrays.items():
        leader, what = (CANDIDATE_ITEM, "candidates") if of_candidates(name) else (HISTORY_ITEM, "behaviours")
        of = arrays[leader].shape[1]
        if array.ndim == 2 and array.shape[1] != of:
            raise ValueError(f"{name} has width {array.shape[1]}, {leader} {of}; they describe the same {what}")
    if not arrays[CANDIDATE_ITEM].shape[1]:
        raise ValueError("candidate_item holds no candidate; send at least one")
    for name, of in _COUNTS.items():
        _count(arrays, name, of)
    if not width:  # server-side batching cannot join an empty tensor with others
        for name, array in arrays.items():
            if of_history(name) and array.ndim == 2:
                arrays[name] = np.zeros((users, 1), array.dtype)
    check_values(arrays, schema)
    return arrays if schema is None else latest_behaviours(arrays, schema.history.max_length)


def _hashed(name: str, value: Any, schema: "FeatureSchema | None") -> Any:
    """Text ids through the pipeline's own hash; whole numbers as they are (hashed already, or never text)."""
    array = np.asarray(value)
    texts = array.dtype.kind == "U" or (array.dtype.kind == "O" and all(isinstance(v, str) for v in array.flat))
    if not texts or not array.size:
        return value
    if schema is None:
        raise ValueError(f"{name} holds text; give the client the model's schema, which says how ids are hashed")
    if schema.events.item.type == "int":
        raise ValueError(f"{name} holds text, but the schema's item ids are whole numbers; send them as numbers")
    from twin_tf.features.encoders import encode_ids  # not at the top: a client of whole numbers does without

    return encode_ids(schema.events.item, array.ravel().tolist()).reshape(array.shape)


def _check_name(name: str) -> None:
    if name not in _NAMES and not name.startswith(PREFIXES):
        raise ValueError(
            f"the request has an unknown input {name!r}; names are {', '.join(_NAMES)}, and"
            " history_<cross feature>, user_<user feature>, context_<context feature>, candidate_<candidate feature>"
        )


def _batched(name: str, value: Any) -> Array:
    _check_name(name)
    rank, dtype = rank_of(name), np.dtype(dtype_of(name))
    array = np.asarray(value)
    if array.size == 0:
        array = array.astype(dtype)
    if array.dtype.kind not in "iu":
        raise ValueError(_no_whole_numbers(name, array))
    if array.dtype != dtype:
        converted = array.astype(dtype)
        if not np.array_equal(converted, array):
            raise ValueError(f"{name} holds values outside {dtype}: {array.min()} to {array.max()}")
        array = converted
    if array.ndim == rank - 1:
        array = array[np.newaxis]
    if array.ndim != rank:
        raise ValueError(f"{name} must have {rank} dimensions (or {rank - 1} for one user), not {array.ndim}")
    return array


def _no_whole_numbers(name: str, array: Array) -> str:
    for place, value in np.ndenumerate(array):
        if value is None or str(value) in ("nan", "NaT", "<NA>"):
            where = ", ".join(map(str, place))
            return f"{name}[{where}] is missing ({value}); leave out the behaviour or candidate that nobody knows"
    return f"{name} must hold whole numbers (ids, times or indices), not {array.dtype}"


def _count(arrays: dict[str, Array], name: str, of: str) -> None:
    users, width = arrays[of].shape
    if name not in arrays:
        arrays[name] = np.full(users, width, np.int32)
    for row in np.flatnonzero((arrays[name] > width) | (arrays[name] < 0))[:1]:
        count = int(arrays[name][row])
        if count < 0:
            raise ValueError(
                f"{name}[{row}] = {count} is negative; it says how many of {of}'s {width} columns are real"
            )
        raise ValueError(f"{name}[{row}] = {count} exceeds {of}'s width {width}; send {of} with {count} columns")
