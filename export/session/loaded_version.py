"""One version directory, loaded and called as TensorFlow Serving does it: Predict's checks and texts, and the warm-up.

The local server serves these; the gate loads one to see what a server would see.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from export.contract.errors import (
    DataLossError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    ResourceExhaustedError,
    ServingError,
    error_for,
)
from export.contract.tensors import Array, decode, encode, missing_values
from export.protos import graph_pb2, serving_pb2
from export.session.cpp_session import CppSession
from twin_tf.core.tfrecord import CorruptRecordError, read_records

DEFAULT_SIGNATURE = "serving_default"
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
MOST_WARMUP_RECORDS = 1000
MOST_FILLED = 1 << 20
"""How many values that a request claims and does not hold are filled in, as TensorFlow does without any bound."""

_METHODS = ("tensorflow/serving/predict", "tensorflow/serving/classify", "tensorflow/serving/regress")


class LoadedVersion:
    """A loaded model directory.

    Args:
        version_dir: the model directory.
        version: its number, for the answers; None outside a server.
        intra_op_threads: as in `CppSession`.
        inter_op_threads: as in `CppSession`.

    Raises:
        ServingError: the directory cannot be loaded.
    """

    def __init__(
        self,
        version_dir: str | Path,
        version: int | None = None,
        *,
        intra_op_threads: int = 0,
        inter_op_threads: int = 0,
    ) -> None:
        self.version_dir = Path(version_dir)
        self.version = version
        self.session = CppSession(version_dir, intra_op_threads=intra_op_threads, inter_op_threads=inter_op_threads)

    def predict(self, request: serving_pb2.PredictRequest) -> serving_pb2.PredictResponse:
        """Answers one Predict request; its model name and version are the server's business and are not looked at.

        Raises:
            FailedPreconditionError: no such signature.
            InvalidArgumentError: a missing or extra input, a wrong dtype or shape, an unknown output.
            ResourceExhaustedError: shapes claim far more values than the request holds.
            ServingError: what the graph reports.
        """
        name = request.model_spec.signature_name or DEFAULT_SIGNATURE
        definition = self.session.signature_defs.get(name)
        if definition is None:
            raise FailedPreconditionError(f'Serving signature key "{name}" not found.')
        inputs = _read_inputs(definition, request)
        outputs = self.session.run(name, inputs, _output_names(definition, request))
        response = serving_pb2.PredictResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.signature_name = name
        if self.version is not None:
            response.model_spec.version.value = self.version
        for alias, array in outputs.items():
            encode(array, response.outputs[alias], typed_fields=True)
        return response

    def warm_up(self) -> int:
        """Replays `assets.extra/tf_serving_warmup_requests`, if there is one.

        Returns:
            How many requests it held.

        Raises:
            ServingError: a record is unreadable or fails, or there are more than 1,000; the message names the record.
        """
        path = self.version_dir / WARMUP_FILE
        if not path.exists():
            return 0
        count = 0
        for count, record in enumerate(_records(path), 1):
            if count > MOST_WARMUP_RECORDS:
                raise InvalidArgumentError(
                    f"Number of warmup records exceeds the maximum ({MOST_WARMUP_RECORDS}) at {path}"
                )
            try:
                log = serving_pb2.PredictionLog.FromString(record)
            except Exception as error:  # noqa: BLE001  protobuf's DecodeError lives in a different place per version
                raise InvalidArgumentError(f"Failed to parse warmup record {count - 1} from {path}") from error
            if log.WhichOneof("log_type") != "predict_log":
                raise error_for(12, f"warmup record {count - 1} of {path} holds no predict_log")
            try:
                self.predict(log.predict_log.request)
            except ServingError as error:
                signature = log.predict_log.request.model_spec.signature_name or DEFAULT_SIGNATURE
                raise error_for(error.code, f"warmup record {count - 1} ({signature}): {error.message}") from error
        return count

    def close(self) -> None:
        """Frees the model."""
        self.session.close()


def _records(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as stream:
            yield from read_records(stream, str(path))
    except CorruptRecordError as error:
        raise DataLossError(str(error)) from error


def _read_inputs(definition: graph_pb2.SignatureDef, request: serving_pb2.PredictRequest) -> dict[str, Array]:
    if definition.method_name not in _METHODS:
        raise InternalError(
            f"Expected prediction signature method_name to be one of {{{', '.join(_METHODS)}}}."
            f" Was: {definition.method_name}"
        )
    sent, declared = sorted(request.inputs), sorted(definition.inputs)
    if len(sent) != len(declared):
        raise InvalidArgumentError(
            f"input size does not match signature: {len(sent)}!={len(declared)} len({{{','.join(sent)}}}) !="
            f" len({{{','.join(declared)}}}). Sent extra: {{{','.join(sorted(set(sent) - set(declared)))}}}."
            f" Missing but required: {{{','.join(sorted(set(declared) - set(sent)))}}}."
        )
    inputs = {}
    filled = 0
    for alias in sent:
        if alias not in definition.inputs:
            raise InvalidArgumentError(
                f"input tensor alias not found in signature: {alias}."
                f" Inputs expected to be in the set {{{','.join(declared)}}}."
            )
        try:
            filled += missing_values(request.inputs[alias])
            if filled > MOST_FILLED:
                raise ResourceExhaustedError(
                    f"the shape of {alias} claims more values than it holds: {filled} would be filled in, and this "
                    f"server fills in at most {MOST_FILLED}"
                )
            inputs[alias] = np.asarray(decode(request.inputs[alias], exact=False))
        except (ValueError, MemoryError) as error:
            raise InvalidArgumentError(f"tensor parsing error: {alias}") from error
    return inputs


def _output_names(definition: graph_pb2.SignatureDef, request: serving_pb2.PredictRequest) -> list[str] | None:
    names = list(request.output_filter)
    for alias in names:
        if alias not in definition.outputs:
            raise InvalidArgumentError(
                f"output tensor alias not found in signature: {alias}"
                f" Outputs expected to be in the set {{{','.join(sorted(definition.outputs))}}}."
            )
        if names.count(alias) > 1:
            raise InvalidArgumentError(f"duplicate output tensor alias: {alias}")
    return names or None
