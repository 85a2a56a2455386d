"""One user's request as JSON of raw values, by the column names of the logs; encoded by the pipeline's own encoder.

    {"history": [{"product_id": 819063, "timestamp": 1483361786, "quantity": 1, "price": 2.5, "discount": 0}],
     "user": {"age": "35-44"}, "context": {}, "request_time": 1511716690, "candidates": [819063, 995242]}

Behaviours may come in any order; they are sent oldest first. Times are whole numbers of the log's unit, or written as
in the log (`2023-11-14T22:13:20Z` with `format: iso8601`). Columns that are left out are unknown. An id above 2^53 is
safe as text, `"9007199254740993"`: many programs that write JSON round such a number. Where candidate features are in
the schema, a candidate may be an object, `{"product_id": 819063, "shelf_price": 2.5}`. For a model that
was trained on clusters a behaviour may say `"cluster_size": 12`; without it, it is one behaviour.
"""

import json
import math
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from export.client.request import ClickRequest, ClickResponse
from twin_tf.core.dataclass_yaml import ConfigError, nearest
from twin_tf.core.yaml_text import parse_json
from twin_tf.features.encoders import FeatureEncoder, encode_ids
from twin_tf.features.event_times import EXACT_FLOATS, TimeColumn, parse_times
from twin_tf.features.schema import LONGEST_HISTORY, PADDING, Feature, FeatureSchema, IdColumn

_CLUSTER_SIZE = "cluster_size"
_DIGITS = re.compile("-?[0-9]{1,19}")
_KEYS = ("history", "user", "context", "request_time", "candidates")


def load_encoder(model: str | Path) -> FeatureEncoder:
    """The encoder that travels with an exported model.

    Raises:
        ConfigError: the directory is no exported model.
    """
    extra = Path(model) / "assets.extra"
    if not (extra / "schema.yaml").is_file():
        raise ConfigError(f"{model} is no exported model: it has no assets.extra/schema.yaml")
    return FeatureEncoder.load(extra)


def read_request(path: str) -> dict[str, Any]:
    """Reads a request from a file, or from standard input for `-`.

    Raises:
        ConfigError: no such file, or no JSON object in it.
    """
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the request {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:  # of standard input, which Python decodes
        raise ConfigError(f"the request {path} is not UTF-8: {error}") from error
    return parse_request(text, f"the request {path}")


def parse_request(text: str | bytes, where: str = "the request") -> dict[str, Any]:
    """Reads a request from a text, which messages call `where`.

    Raises:
        ConfigError: no JSON object.
    """
    data = parse_json(text, where)
    if not isinstance(data, dict):
        raise ConfigError(f"{where} must be a JSON object, not {type(data).__name__}")
    return data


def encode_request(encoder: FeatureEncoder, data: Mapping[str, Any]) -> ClickRequest:
    """Encodes raw values.

    Args:
        encoder: of the exported model.
        data: see the module's text.

    Raises:
        ConfigError: a missing or unknown key, or a value of the wrong type.
    """
    schema = encoder.schema
    for key in data:
        if key not in _KEYS:
            raise ConfigError(f"the request has an unknown key {key!r}{nearest(key, _KEYS)}")
    for key in ("request_time", "candidates"):
        if key not in data:
            raise ConfigError(f"the request needs the key {key!r}")
    history, candidates = list(_listed(data, "history")), _listed(data, "candidates")
    if not candidates:
        raise ConfigError("candidates must be a list of at least one item id, not []")
    required = (schema.events.item.column, schema.events.time.column)
    shown = [_shown(schema, place, candidate) for place, candidate in enumerate(candidates)]
    candidates = [candidate[required[0]] for candidate in shown]
    allowed = {*required, *(feature.column for feature in schema.stored_cross)}
    allowed |= {_CLUSTER_SIZE} if schema.history.clustered else set()
    for place, behaviour in enumerate(history):
        if not isinstance(behaviour, Mapping):
            raise ConfigError(f"history[{place}] must be an object with {', '.join(required)}, not {behaviour!r}")
        for column in required:
            if column not in behaviour:
                raise ConfigError(f"history[{place}] needs {column!r}")
        _check_columns(f"history[{place}]", behaviour, allowed)
    user, context = data.get("user", {}), data.get("context", {})
    for name, values, features in (("user", user, schema.user), ("context", context, schema.stored_context)):
        if not isinstance(values, Mapping):
            raise ConfigError(f"{name} must be an object, not {values!r}")
        _check_columns(name, values, {feature.column for feature in features})
    item, time = required
    given = [
        *((f"history[{place}].{column}", b[column]) for place, b in enumerate(history) for column in required),
        *((f"candidates[{place}]", value) for place, value in enumerate(candidates)),
        ("request_time", data["request_time"]),
    ]
    for where, value in given:
        if value is None or value != value:  # NaN alone is not itself
            raise ConfigError(f"{where} is {json.dumps(value)}; leave out the behaviour or candidate that nobody knows")
    try:
        times = _times(schema.events.time, [behaviour[time] for behaviour in history])
        moment = _times(schema.events.time, [data["request_time"]])[0]
        ids, asked = (_ids(schema.events.item, v) for v in ([b[item] for b in history], candidates))
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"ids and times must be whole numbers or written as in the logs: {error}") from error
    sizes = [behaviour.get(_CLUSTER_SIZE, 1) for behaviour in history]
    for place, size in enumerate(sizes):
        if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= LONGEST_HISTORY:
            raise ConfigError(
                f"history[{place}].{_CLUSTER_SIZE} must be a whole number from 1 to {LONGEST_HISTORY}, not {size!r}"
            )
    order = np.argsort(times, kind="stable")
    history = [history[place] for place in order]
    return ClickRequest(
        history_item=ids[order],
        history_time=times[order],
        request_time=moment,
        candidate_item=asked,
        history_count=np.array(sizes, np.int32)[order] if schema.history.clustered else None,
        cross={f.name: encoder.encode(f.name, [b.get(f.column) for b in history]) for f in schema.stored_cross},
        user={f.name: encoder.encode(f.name, [user.get(f.column)])[0] for f in schema.user},
        context={f.name: encoder.encode(f.name, [context.get(f.column)])[0] for f in schema.stored_context},
        candidate={f.name: _of_candidates(encoder, f, shown) for f in schema.requested_candidate},
    )


def _of_candidates(
    encoder: FeatureEncoder, feature: Feature, shown: Sequence[Mapping[str, Any]]
) -> npt.NDArray[np.int32]:
    """The indices of a candidate feature; of one counted of items 0, which is what the server knows, if left out."""
    found = encoder.encode(feature.name, [candidate.get(feature.column) for candidate in shown])
    if feature.counted is None:
        return found
    return np.where([feature.column in candidate for candidate in shown], found, PADDING).astype(np.int32)


def _shown(schema: FeatureSchema, place: int, candidate: Any) -> Mapping[str, Any]:
    """A candidate as an object of columns; a bare id has no others."""
    item, where = schema.events.item.column, f"candidates[{place}]"
    if not isinstance(candidate, Mapping):
        return {item: candidate}
    if item not in candidate:
        raise ConfigError(f"{where} needs {item!r}")
    allowed = {item, *(feature.column for feature in schema.requested_candidate)}
    for feature in schema.candidate:
        if feature.column in candidate and feature.column not in allowed:
            raise ConfigError(
                f"{where} has {feature.column!r}, but every candidate is served with {feature.serve_as!r}; leave it out"
            )
    _check_columns(where, candidate, allowed)
    return candidate


def _listed(data: Mapping[str, Any], key: str) -> list[Any]:
    values = data.get(key, [])
    if not isinstance(values, list):
        raise ConfigError(f"{key} must be a list, not {values!r}")
    return values


def _check_columns(place: str, given: Mapping[str, Any], allowed: Collection[str]) -> None:
    for column in given:
        if column not in allowed:
            raise ConfigError(f"{place} has an unknown column {column!r}{nearest(column, allowed)}")


def _whole(values: Sequence[Any]) -> npt.NDArray[np.int64]:
    """int64; nothing is rounded."""
    for value in values:
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{value!r} is no whole number")
    return np.array(values, np.int64)


def _times(column: TimeColumn, values: Sequence[Any]) -> npt.NDArray[np.int64]:
    """As the log writes them, or whole numbers of its unit; what floats have behind the point is cut off there too."""
    texts = [value for value in values if isinstance(value, str)] if column.format else []
    written, bad = parse_times(column, texts)
    if bad.any():
        raise ValueError(f"{texts[int(bad.argmax())]!r} is no time of the format {column.format}")
    read = iter(written.tolist())
    return _whole([_plain_time(value) if not (texts and isinstance(value, str)) else next(read) for value in values])


def _plain_time(value: Any) -> Any:
    return math.floor(value) if isinstance(value, float) and abs(value) < EXACT_FLOATS else value


def _ids(column: IdColumn, values: Sequence[Any]) -> npt.NDArray[np.int64]:
    if column.type == "int":  # whose digits may come as text: many JSON writers round numbers above 2^53
        return _whole([int(v) if isinstance(v, str) and _DIGITS.fullmatch(v) else v for v in values])
    for value in values:
        if not isinstance(value, (str, int)) or isinstance(value, bool):  # a number is the text of its digits
            raise ValueError(f"{value!r} is no text")
    return encode_ids(column, values)


def answer_as_json(data: Mapping[str, Any], answer: ClickResponse) -> dict[str, Any]:
    """The answer beside what was asked, best candidate first, objects as they were given."""
    probability = [float(value) for value in answer.probability[0]]
    ranked = sorted(zip(data["candidates"], probability, strict=True), key=lambda pair: -pair[1])
    return {
        "candidates": [{"item": item, "probability": value} for item, value in ranked],
        "unknown_items": int(answer.unknown_items[0]),
        "behaviours_seen": int(answer.behaviours_seen[0]),
        "adjusted": None if answer.adjusted is None else int(answer.adjusted[0]),
        "weights_version": int(answer.weights_version[0]),
        "table_version": int(answer.table_version[0]),
        "model_version": answer.model_version,
    }
