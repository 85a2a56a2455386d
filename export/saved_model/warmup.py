"""Warm-up requests that TensorFlow Serving replays before it serves a version; any failing one refuses the version.

One request per bucket shape (so that the first real request of a shape is not the slow one), the self-check over the
whole table, and one call of each other signature.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from export.contract.signatures import WHOLE_TABLE, feature_contract
from export.saved_model.servable import request_spec
from twin_tf.config import ServingConfig
from twin_tf.core.keras_api import tf
from twin_tf.features.request_names import (
    CANDIDATE_COUNT,
    CANDIDATE_ITEM,
    HISTORY_LENGTH,
    HISTORY_TIME,
    of_candidates,
)
from twin_tf.features.schema import FeatureSchema

MODEL_NAME = "twin"

Request = dict[str, npt.NDArray[np.generic]]


def write_warmup(schema: FeatureSchema, config: ServingConfig, requests: Request, path: Path) -> int:
    """Writes `tf_serving_warmup_requests`, a TFRecord file of `PredictionLog`s.

    Args:
        schema: the feature schema.
        config: which widths to warm.
        requests: real requests, `(probes, ...)` by input name; their first is stretched to each width.
        path: the file to write.

    Returns:
        How many requests were written.
    """
    calls: list[tuple[str, Request]] = [("self_check", {"probe": np.array([WHOLE_TABLE], np.int32)})]
    sample = {name: value[:1] for name, value in requests.items()}
    calls.append(("item_projection", {"item": sample[CANDIDATE_ITEM]}))
    known = sample[CANDIDATE_ITEM][:, : config.max_candidates // 2]
    calls.append(("live_projection", _live_sample(schema, known)))
    shaped = [
        _stretch(schema, sample, min(length, schema.history.max_length), candidates)
        for length in config.warmup_lengths
        for candidates in config.warmup_candidates
    ]
    calls += [("serving_default", request) for request in shaped]
    calls.append(("retrieve", shaped[0]))
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in calls:
            writer.write(_prediction_log(signature, inputs))
    return len(calls)


def _live_sample(schema: FeatureSchema, item: npt.NDArray[np.generic]) -> Request:
    """The items, and as many that no table knows, each feature unknown."""
    item = np.concatenate([item, np.full_like(item, -1)], axis=1)
    features: Request = {
        name: np.ones([*item.shape, *([contract.width] if contract.width else [])], np.int32)
        for name, contract in feature_contract(schema).items()
    }
    return {"item": item, **features}


def _stretch(schema: FeatureSchema, sample: Request, length: int, candidates: int) -> Request:
    request: Request = {}
    for name, spec in request_spec(schema).items():
        value = sample[name]
        if spec.shape.rank == 2:
            width = candidates if of_candidates(name) else length
            value = np.resize(value, (1, width))
        request[name] = value.astype(spec.dtype.as_numpy_dtype)
    request[HISTORY_TIME] = np.sort(request[HISTORY_TIME], axis=1)
    request[HISTORY_LENGTH] = np.array([length], np.int32)
    request[CANDIDATE_COUNT] = np.array([candidates], np.int32)
    return request


def _prediction_log(signature: str, inputs: Request) -> bytes:
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = MODEL_NAME
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
    return bytes(log.SerializeToString())
