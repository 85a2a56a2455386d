"""What the sync and the asyncio client share: every call but the waiting for its answer.

Requests become messages, answers become arrays, and gRPC's errors the exceptions of `export.contract.errors`, here
alone.
"""

import abc
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np

from export.client.channel import MOST_RETRIES, channel_options, target_uri
from export.client.request import ClickRequest, ClickResponse, normalise
from export.contract.errors import DataLossError, ServingError, error_for
from export.contract.signatures import CONTRACT_OUTPUT
from export.contract.tensors import Array, decode, encode
from export.protos import serving_pb2
from twin_tf.features.request_names import CANDIDATE_ITEM

if TYPE_CHECKING:
    from twin_tf.features.schema import FeatureSchema

_STATES = {value: name for name, value in serving_pb2.ModelVersionStatus.State.items()}
_ANSWERS = ("probability", "weights_version", "table_version", "unknown_items")
PREDICT = "/tensorflow.serving.PredictionService/Predict"
MODEL_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"


class ModelCalls(abc.ABC):
    """One model on one or several servers; `TwinClient` and `AsyncTwinClient` say what it takes.

    Args:
        targets: `host:port`, or several of them. One host name is resolved anew while the client lives, so a headless
            service may grow and shrink behind it; of several, each is resolved once.
        model_name: the served model.
        version: ask for this version; the newest if None.
        label: ask for the version that the server's configuration gives this label.
        schema: the model's (`assets.extra/schema.yaml`); needed where item ids are strings, which are then hashed by
            the pipeline's own function.
        timeout_s: the deadline of a call, in seconds.
        max_receive_bytes: the largest answer taken (gRPC's own default is 4 MiB).
        max_retries: 0 to 3.
        credentials: of `grpc.ssl_channel_credentials`; a plain connection if None.

    Raises:
        ValueError: no target, a target without a port, a host name that does not resolve, or a setting out of range.
    """

    def __init__(
        self,
        targets: str | Sequence[str],
        model_name: str = "twin",
        *,
        version: int | None = None,
        label: str | None = None,
        schema: "FeatureSchema | None" = None,
        timeout_s: float = 5.0,
        max_receive_bytes: int = 64 << 20,
        max_retries: int = MOST_RETRIES,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self.addresses = (targets,) if isinstance(targets, str) else tuple(targets)
        self.model_name = model_name
        self.version = version
        self.label = label
        self.schema = schema
        self.timeout_s = _positive(timeout_s)
        if version is not None and label is not None:
            raise ValueError(f"version {version} and label {label!r} exclude each other; give one of them")
        options = channel_options(max_receive_bytes, max_retries)
        self._channel = self._open(target_uri(self.addresses), options, credentials)
        self._predict = self._channel.unary_unary(
            PREDICT,
            request_serializer=serving_pb2.PredictRequest.SerializeToString,
            response_deserializer=serving_pb2.PredictResponse.FromString,
        )
        self._model_status = self._channel.unary_unary(
            MODEL_STATUS,
            request_serializer=serving_pb2.GetModelStatusRequest.SerializeToString,
            response_deserializer=serving_pb2.GetModelStatusResponse.FromString,
        )

    @abc.abstractmethod
    def _open(self, uri: str, options: list[tuple[str, Any]], credentials: grpc.ChannelCredentials | None) -> Any:
        """A grpc.Channel or a grpc.aio.Channel."""

    def _deadline(self, timeout_s: float | None) -> float:
        return self.timeout_s if timeout_s is None else _positive(timeout_s)

    def _click_message(
        self, request: ClickRequest | Mapping[str, Any]
    ) -> tuple[serving_pb2.PredictRequest, dict[str, Array]]:
        inputs = normalise(request, self.schema)
        return self._message("serving_default", inputs), inputs

    def _message(
        self, signature: str, inputs: Mapping[str, Any], outputs: Sequence[str] = ()
    ) -> serving_pb2.PredictRequest:
        message = serving_pb2.PredictRequest(output_filter=outputs)
        self._address(message.model_spec)
        message.model_spec.signature_name = signature
        for name, value in inputs.items():
            encode(np.asarray(value), message.inputs[name])
        return message

    def _status_message(self) -> serving_pb2.GetModelStatusRequest:
        message = serving_pb2.GetModelStatusRequest()
        self._address(message.model_spec)
        return message

    def _address(self, spec: serving_pb2.ModelSpec) -> None:
        spec.name = self.model_name
        if self.version is not None:
            spec.version.value = self.version
        if self.label is not None:
            spec.version_label = self.label

    def _click_response(self, response: serving_pb2.PredictResponse, inputs: Mapping[str, Array]) -> ClickResponse:
        outputs = read_outputs(response)
        missing = [name for name in _ANSWERS if name not in outputs]
        if missing:
            raise DataLossError(f"the answer lacks {', '.join(missing)}; is {self.model_name!r} a TWIN model?")
        # Batching on the server pads: the caller gets back as many columns as it sent.
        outputs["probability"] = outputs["probability"][:, : inputs[CANDIDATE_ITEM].shape[1]]
        return ClickResponse(
            **{name: outputs[name] for name in _ANSWERS},
            model_version=response.model_spec.version.value,
            contract=outputs.get(CONTRACT_OUTPUT),
        )

    def _explained(self, error: grpc.RpcError, timeout: float) -> ServingError:
        code, details = error.code(), (error.details() or "no details").strip()
        where, number = ", ".join(self.addresses), code.value[0]
        if code == grpc.StatusCode.UNAVAILABLE:
            advice = "check that the server runs and listens there (`twin-tf serve` starts a local one)"
            return error_for(number, f"no server answers at {where} ({details}); {advice}")
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            return error_for(number, f"no answer from {where} within {timeout:g} s; raise timeout_s or send less")
        if code == grpc.StatusCode.UNIMPLEMENTED:
            return error_for(number, f"what listens at {where} is no TensorFlow Serving ({details})")
        if code == grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in details:
            return error_for(number, f"the answer is too large ({details}); raise max_receive_bytes or send less")
        if code == grpc.StatusCode.NOT_FOUND:
            return error_for(number, f"{where} serves no such model or version: {details}")
        return error_for(number, details)


def read_outputs(response: serving_pb2.PredictResponse) -> dict[str, Array]:
    """The outputs of an answer by name.

    Raises:
        DataLossError: a tensor that cannot be read.
    """
    try:
        return {name: decode(tensor) for name, tensor in response.outputs.items()}
    except ValueError as error:
        raise DataLossError(f"the server's answer cannot be read: {error}") from error


def states_by_version(response: serving_pb2.GetModelStatusResponse) -> dict[int, str]:
    """Version -> state, newest first; the reason behind it where a version was refused."""
    entries = sorted(response.model_version_status, key=lambda entry: -entry.version)
    return {
        entry.version: _STATES.get(entry.state, str(entry.state))
        + (f": {entry.status.error_message}" if entry.status.error_message else "")
        for entry in entries
    }


def _positive(timeout_s: float) -> float:
    if timeout_s <= 0:
        raise ValueError(f"timeout_s must be positive, not {timeout_s}")
    return timeout_s
