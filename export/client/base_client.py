"""What the sync and the asyncio client share: every call but the waiting for its answer.

Requests become messages and gRPC's errors the exceptions of `export.contract.errors`, here alone.
"""

import abc
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np

from export.client.attempts import MOST_RETRIES, Rotation
from export.client.channel import channel_options, target_uris
from export.client.request import ClickRequest, normalise
from export.contract.errors import ServingError, error_for
from export.contract.tensors import Array, encode
from export.protos import serving_pb2

if TYPE_CHECKING:
    from twin_tf.features.schema import FeatureSchema

_ADVICE = "check that the server runs and listens there (`twin-tf serve` starts a local one)"
_TLS_ADVICE = "check that it speaks TLS, that its certificate names this host, and that credentials trust its authority"
_OF_TLS = re.compile("handshake failed|verification check failed", re.IGNORECASE)
LONGEST_TIMEOUT_S = 86_400.0
"""A day: who would wait longer has mistaken the unit."""

PREDICT = "/tensorflow.serving.PredictionService/Predict"
MODEL_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"


class ModelCalls(abc.ABC):
    """One model on one or several servers; `TwinClient` and `AsyncTwinClient` say what it takes.

    Args:
        targets: `host:port`, or several of them. Each name is resolved anew while the client lives, so a headless
            service may grow and shrink behind it.
        model_name: the served model.
        version: ask for this version; the newest if None.
        label: ask for the version that the server's configuration gives this label.
        schema: the model's (`assets.extra/schema.yaml`); needed where item ids are strings, which are then hashed by
            the pipeline's own function.
        timeout_s: the deadline of a call, in seconds, at most a day.
        max_receive_bytes: the largest answer taken (gRPC's own default is 4 MiB).
        max_retries: 0 to 3.
        credentials: of `grpc.ssl_channel_credentials`; a plain connection if None. Each server's certificate must name
            the host that `targets` calls it by.

    Raises:
        ValueError: no target, a target without a port, or a setting out of range.
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
        self.timeout_s = checked_timeout(timeout_s)
        if version is not None and label is not None:
            raise ValueError(f"version {version} and label {label!r} exclude each other; give one of them")
        uris, options = target_uris(self.addresses), channel_options(max_receive_bytes)
        self._rotation = Rotation(len(uris), max_retries)
        self._channels = [self._open(uri, options, credentials) for uri in uris]
        self._predict = self._method(PREDICT, serving_pb2.PredictRequest, serving_pb2.PredictResponse)
        self._model_status = self._method(
            MODEL_STATUS, serving_pb2.GetModelStatusRequest, serving_pb2.GetModelStatusResponse
        )
        self._follow_states()

    @abc.abstractmethod
    def _open(self, uri: str, options: list[tuple[str, Any]], credentials: grpc.ChannelCredentials | None) -> Any:
        """A grpc.Channel or a grpc.aio.Channel."""

    @abc.abstractmethod
    def _follow_states(self) -> None:
        """Begins to follow which channels are connected; called once, when all are open."""

    def _method(self, path: str, request: Any, response: Any) -> list[Any]:
        """A method as each server has it."""
        return [
            channel.unary_unary(
                path, request_serializer=request.SerializeToString, response_deserializer=response.FromString
            )
            for channel in self._channels
        ]

    def _deadline(self, timeout_s: float | None) -> float:
        return self.timeout_s if timeout_s is None else checked_timeout(timeout_s)

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

    def _explained(self, error: grpc.RpcError, timeout: float) -> ServingError:
        code, details = error.code(), (error.details() or "no details").strip()
        where, number = ", ".join(self.addresses), code.value[0]
        if code == grpc.StatusCode.UNAVAILABLE:
            advice = _TLS_ADVICE if _OF_TLS.search(details) else _ADVICE
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


def checked_timeout(timeout_s: float) -> float:
    """A deadline that gRPC can keep.

    Raises:
        ValueError: not a number above 0, or more than a day.
    """
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, (int, float, np.integer, np.floating)):
        raise ValueError(f"timeout_s must be a number of seconds, not {timeout_s!r}")
    if not math.isfinite(timeout_s) or not 0 < timeout_s <= LONGEST_TIMEOUT_S:
        raise ValueError(
            f"timeout_s must be positive and at most {LONGEST_TIMEOUT_S:g} seconds (a day), not {timeout_s:g}"
        )
    return float(timeout_s)
