"""The gRPC client of a served TWIN model: NumPy in, click probabilities out, no TensorFlow in the process.

Works with stock TensorFlow Serving and with `export.local_server` alike.

Example:
    >>> with TwinClient("127.0.0.1:8500") as client:
    ...     answer = client.predict({"history_item": items, "history_time": times, "request_time": now,
    ...                              "candidate_item": candidates})
    ...     answer.probability
"""

import json
import socket
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import grpc
import numpy as np

from export.click_request import ClickRequest, ClickResponse, normalise
from export.errors import DataLossError, ServingError, error_for
from export.protos import serving_pb2
from export.tensors import Array, decode, encode

__all__ = ["ClickRequest", "ClickResponse", "TwinClient"]

_STATES = {value: name for name, value in serving_pb2.ModelVersionStatus.State.items()}


class TwinClient:
    """Calls one model on one or several servers; may be shared by threads.

    Calls go to the servers in turn. A call the server could not take (UNAVAILABLE) is made again, on the next server
    where there are several, at most `max_retries` times within the deadline; nothing else is retried.

    Args:
        targets: `host:port`, or several of them. One host name is resolved anew while the client lives, so a headless
            service may grow and shrink behind it; of several, each is resolved once.
        model_name: the served model.
        version: ask for this version; the newest if None.
        timeout_s: the deadline of a call, in seconds.
        max_receive_bytes: the largest answer taken (gRPC's own default is 4 MiB).
        max_retries: 0 to 3.

    Raises:
        ValueError: no target, a target without a port, a host name that does not resolve, or a setting out of range.
    """

    def __init__(
        self,
        targets: str | Sequence[str],
        model_name: str = "twin",
        *,
        version: int | None = None,
        timeout_s: float = 5.0,
        max_receive_bytes: int = 64 << 20,
        max_retries: int = 3,
    ) -> None:
        addresses = [targets] if isinstance(targets, str) else list(targets)
        if timeout_s <= 0:
            raise ValueError(f"timeout_s must be positive, not {timeout_s}")
        if not 0 <= max_retries <= 3:
            raise ValueError(f"max_retries must be 0 to 3, not {max_retries}: more only adds load to an ailing server")
        self.addresses = tuple(addresses)
        self.model_name = model_name
        self.version = version
        self.timeout_s = timeout_s
        self._channel = grpc.insecure_channel(
            _target_uri(addresses), options=_channel_options(max_receive_bytes, max_retries)
        )
        self._predict = self._channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            request_serializer=serving_pb2.PredictRequest.SerializeToString,
            response_deserializer=serving_pb2.PredictResponse.FromString,
        )
        self._model_status = self._channel.unary_unary(
            "/tensorflow.serving.ModelService/GetModelStatus",
            request_serializer=serving_pb2.GetModelStatusRequest.SerializeToString,
            response_deserializer=serving_pb2.GetModelStatusResponse.FromString,
        )

    def predict(self, request: ClickRequest | Mapping[str, Any], timeout_s: float | None = None) -> ClickResponse:
        """Click probabilities of a request's candidates.

        Args:
            request: a `ClickRequest`, or a mapping with `serving_default`'s input names (`export.click_request`).
            timeout_s: another deadline than the client's.

        Raises:
            ValueError: the request breaks a rule; nothing was sent.
            ServingError: the exception of the server's code, for example `NotFoundError`, `UnavailableError`.
        """
        inputs = normalise(request)
        message = self._request("serving_default", inputs)
        response = self._call(self._predict, message, timeout_s)
        outputs = _outputs(response)
        missing = [name for name in _ANSWERS if name not in outputs]
        if missing:
            raise DataLossError(f"the answer lacks {', '.join(missing)}; is {self.model_name!r} a TWIN model?")
        outputs["probability"] = outputs["probability"][:, : inputs["candidate_item"].shape[1]]
        return ClickResponse(
            **{name: outputs[name] for name in _ANSWERS}, model_version=response.model_spec.version.value
        )

    def call(
        self,
        signature: str,
        inputs: Mapping[str, Any],
        outputs: Sequence[str] = (),
        timeout_s: float | None = None,
    ) -> dict[str, Array]:
        """Calls any signature with arrays exactly as given.

        Args:
            signature: its name, for example `item_projection`.
            inputs: name -> array with the signature's dtype.
            outputs: the outputs to return; all if empty.
            timeout_s: another deadline than the client's.

        Raises:
            ValueError: an array of a type that cannot be sent.
            ServingError: the exception of the server's code.
        """
        message = self._request(signature, {name: np.asarray(value) for name, value in inputs.items()})
        message.output_filter.extend(outputs)
        return _outputs(self._call(self._predict, message, timeout_s))

    def model_status(self, timeout_s: float | None = None) -> dict[int, str]:
        """Version -> state (`AVAILABLE`, `LOADING`, ...; `END: <reason>` for a refused one), newest first.

        Raises:
            ServingError: the exception of the server's code.
        """
        message = serving_pb2.GetModelStatusRequest()
        self._address(message.model_spec)
        response = self._call(self._model_status, message, timeout_s)
        entries = sorted(response.model_version_status, key=lambda entry: -entry.version)
        return {
            entry.version: _STATES.get(entry.state, str(entry.state))
            + (f": {entry.status.error_message}" if entry.status.error_message else "")
            for entry in entries
        }

    def close(self) -> None:
        """Closes the connections; running calls are cancelled."""
        self._channel.close()

    def __enter__(self) -> "TwinClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _address(self, spec: serving_pb2.ModelSpec) -> None:
        spec.name = self.model_name
        if self.version is not None:
            spec.version.value = self.version

    def _request(self, signature: str, inputs: Mapping[str, Array]) -> serving_pb2.PredictRequest:
        message = serving_pb2.PredictRequest()
        self._address(message.model_spec)
        message.model_spec.signature_name = signature
        for name, array in inputs.items():
            encode(array, message.inputs[name])
        return message

    def _call(self, method: Any, message: Any, timeout_s: float | None) -> Any:
        timeout = self.timeout_s if timeout_s is None else timeout_s
        try:
            return method(message, timeout=timeout)
        except grpc.RpcError as error:
            raise self._explained(error, timeout) from error

    def _explained(self, error: grpc.RpcError, timeout: float) -> ServingError:
        code, details = error.code(), (error.details() or "no details").strip()
        where = ", ".join(self.addresses)
        if code == grpc.StatusCode.UNAVAILABLE:
            advice = "check that the server runs and listens there (`twin-tf serve` starts a local one)"
            return error_for(code.value[0], f"no server answers at {where} ({details}); {advice}")
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            return error_for(
                code.value[0], f"no answer from {where} within {timeout:g} s; raise timeout_s or send less"
            )
        if code == grpc.StatusCode.UNIMPLEMENTED:
            return error_for(code.value[0], f"what listens at {where} is no TensorFlow Serving ({details})")
        if code == grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in details:
            return error_for(
                code.value[0], f"the answer is too large ({details}); raise max_receive_bytes or send less"
            )
        if code == grpc.StatusCode.NOT_FOUND:
            return error_for(code.value[0], f"{where} serves no such model or version: {details}")
        return error_for(code.value[0], details)


_ANSWERS = ("probability", "weights_version", "table_version", "unknown_items")


def _outputs(response: serving_pb2.PredictResponse) -> dict[str, Array]:
    try:
        return {name: decode(tensor) for name, tensor in response.outputs.items()}
    except ValueError as error:
        raise DataLossError(f"the server's answer cannot be read: {error}") from error


def _channel_options(max_receive_bytes: int, max_retries: int) -> list[tuple[str, Any]]:
    policy = {
        "maxAttempts": max_retries + 1,
        "initialBackoff": "0.05s",
        "maxBackoff": "0.5s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    config: dict[str, Any] = {
        "loadBalancingConfig": [{"round_robin": {}}],
        # Throttling: after many failures the retries stop, so a dying server is not drowned in them.
        "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
    }
    if max_retries:
        config["methodConfig"] = [{"name": [{}], "retryPolicy": policy}]
    return [
        ("grpc.service_config", json.dumps(config)),
        ("grpc.enable_retries", int(max_retries > 0)),
        ("grpc.per_rpc_retry_buffer_size", 64 << 20),  # a request above the default 256 KiB would never be retried
        ("grpc.max_receive_message_length", max_receive_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 2000),
        ("grpc.use_local_subchannel_pool", 1),  # two clients do not share each other's broken connections
    ]


def _target_uri(addresses: Sequence[str]) -> str:
    """Names the servers to gRPC: by DNS for one, by their resolved addresses for several."""
    if not addresses:
        raise ValueError("targets is empty; give at least one host:port")
    pairs = []
    for address in addresses:
        host, separator, digits = address.rpartition(":")
        if not separator or not host or not digits.isdigit() or not 0 < int(digits) < 65536:
            raise ValueError(f"target {address!r} must read host:port, for example 127.0.0.1:8500")
        pairs.append((host.strip("[]"), int(digits)))
    if len(pairs) == 1:
        return f"dns:///{addresses[0]}"
    resolved: list[tuple[socket.AddressFamily, str]] = []
    for (host, port), address in zip(pairs, addresses, strict=True):
        try:
            family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            ip = str(place[0])
        except OSError as error:
            raise ValueError(f"the host of target {address!r} does not resolve: {error}") from error
        resolved.append((family, f"[{ip}]:{port}" if family == socket.AF_INET6 else f"{ip}:{port}"))
    families = {family for family, _ in resolved}
    if len(families) > 1:
        raise ValueError(f"targets {', '.join(addresses)} mix IPv4 and IPv6; use one of the two")
    scheme = "ipv6" if socket.AF_INET6 in families else "ipv4"
    return f"{scheme}:{','.join(place for _, place in resolved)}"
