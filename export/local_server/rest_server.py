"""The REST paths of TensorFlow Serving over the standard library's HTTP server: predict, status and metadata.

POST /v1/models/<model>[/versions/<number> | /labels/<label>]:predict
GET  /v1/models/<model>[/versions/<number> | /labels/<label>][/metadata]
"""

import contextlib
import json
import logging
import re
import socket
import sys
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from export.contract.errors import InvalidArgumentError, ServingError, error_for, status_name
from export.contract.tensors import decode, enum_name
from export.local_server.limits import Limits
from export.local_server.rest_json import predict_body, read_predict_body, rounded_inputs
from export.local_server.served_models import ServedModels
from export.protos import graph_pb2, serving_pb2

_log = logging.getLogger(__name__)
_VERSION = r"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
_PREDICT = re.compile(rf"(?i)/v1/models/(?P<model>[^/:]+){_VERSION}:(?P<method>classify|regress|predict)")
_STATUS = re.compile(rf"(?i)/v1/models(?:/(?P<model>[^/:]+))?{_VERSION}(?:/(?P<part>metadata))?")
_ANY = re.compile(r"(?i)/v1/.*")
_UNIMPLEMENTED = 12
_LARGEST_VERSION = (1 << 63) - 1
_LONGEST_LENGTH = 19
_DRAIN_SECONDS, _DRAIN_READS = 1.0, 64
_ROUNDED = (
    "{inputs}: numbers beyond 2^53, which many programs round when they write JSON; if ids come out unknown, send them "
    "over gRPC, or as text that the schema hashes"
)
_STATES = {value: name for name, value in serving_pb2.ModelVersionStatus.State.items()}
_HTTP = {
    1: 499,
    3: 400,
    4: 504,
    5: 404,
    6: 409,
    7: 403,
    8: 429,
    9: 400,
    10: 409,
    11: 400,
    12: 501,
    14: 503,
    16: 401,
}  # canonical code -> HTTP status; every other is 500


class RestServer:
    """Listens at once, answers from `start` on.

    Args:
        models: what is served.
        host: the address to listen on.
        port: 0 takes a free one.
        limits: of bodies and connections.

    Raises:
        ValueError: the port is in use.
    """

    def __init__(self, models: ServedModels, host: str, port: int, limits: Limits) -> None:
        own = {"models": models, "most_bytes": limits.request_bytes, "timeout": limits.idle_seconds}
        handler = type("Handler", (_Handler,), own)
        try:
            self._server = _Server((host, port), handler)
        except OSError as error:
            raise ValueError(f"cannot listen for REST on {host}:{port}; choose a free --rest_api_port") from error
        self.address = f"{host}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="rest", daemon=True)

    def start(self) -> None:
        """Answers requests from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Takes no more connections."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that breaks is the caller's affair."""
        _log.info("the connection from %s broke: %r", client_address, sys.exc_info()[1])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "twin-local-server"
    models: ServedModels
    most_bytes: int

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def do_GET(self) -> None:
        self._answer_body()

    def do_POST(self) -> None:
        self._answer_body()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answers in JSON what the standard library finds wrong with a request, and closes the connection."""
        del explain
        self.close_connection = True
        self.request_version = self.protocol_version  # else a request without a version gets an answer without a head
        self._send(code, {"error": message or HTTPStatus(code).phrase})
        self._drain()

    def log_message(self, format: str, *args: Any) -> None:
        _log.debug(format, *args)

    def _answer_body(self) -> None:
        """Reads the body, and answers it if it could be read."""
        try:
            size = self._content_length()
            body = self.rfile.read(size)
        except _RefusedError as refused:
            self.send_error(refused.status, str(refused))
        except TimeoutError:
            self.send_error(HTTPStatus.REQUEST_TIMEOUT, f"the body did not come within {self.timeout:g} s")
        else:
            if len(body) < size:
                self.send_error(HTTPStatus.BAD_REQUEST, f"the body ends after {len(body)} of {size} bytes")
            else:
                self._answer(body)

    def _content_length(self) -> int:
        """The size of the body in bytes.

        Raises:
            _RefusedError: it is not told, or is none, or too large.
        """
        if self.headers.get("Transfer-Encoding") is not None:
            raise _RefusedError(HTTPStatus.NOT_IMPLEMENTED, "this stand-in takes no Transfer-Encoding")
        told = set(self.headers.get_all("Content-Length", ()))
        if not told and self.command == "POST":
            raise _RefusedError(HTTPStatus.LENGTH_REQUIRED, "Content-Length is missing")
        digits = told.pop() if told else "0"
        if told or not re.fullmatch("[0-9]+", digits):
            raise _RefusedError(HTTPStatus.BAD_REQUEST, f"Content-Length must be a number, not {digits[:40]!r}")
        if len(digits.lstrip("0")) > _LONGEST_LENGTH or int(digits[-_LONGEST_LENGTH:]) > self.most_bytes:
            raise _RefusedError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"this stand-in takes bodies of at most {self.most_bytes} bytes"
            )
        return int(digits[-_LONGEST_LENGTH:])

    def _drain(self) -> None:
        """Takes some of what was not read: a connection that is closed on it would take the answer with it."""
        self.connection.settimeout(_DRAIN_SECONDS)
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            for _ in range(_DRAIN_READS):
                if not self.connection.recv(1 << 16):
                    break

    def _answer(self, body: bytes) -> None:
        path = self.path.partition("?")[0]
        if not _ANY.fullmatch(path):
            self._send(HTTPStatus.NOT_FOUND, {"error": "Not Found"})
            return
        try:
            content, warning = answer(self.models, self.command, path, body)
        except ServingError as error:
            self._send(_HTTP.get(error.code, HTTPStatus.INTERNAL_SERVER_ERROR), {"error": error.message})
        except Exception as error:  # noqa: BLE001  a fault of this stand-in is the caller's answer, not its end
            _log.error("a fault of this stand-in: %r", error)
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": f"a fault of this stand-in: {error!r}"})
        else:
            self._send(HTTPStatus.OK, content, warning)

    def _send(self, status: int, content: Any, warning: str = "") -> None:
        data = json.dumps(content, indent=4, ensure_ascii=False).encode("utf-8", "replace")
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if warning:
            self.send_header("Warning", f'299 {self.server_version} "{warning}"')
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


class _RefusedError(Exception):
    """A request that is answered before its body is read."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


def answer(models: ServedModels, method: str, path: str, body: bytes) -> tuple[Any, str]:
    """The JSON content that answers a request, and a warning about what was asked, or nothing.

    Raises:
        ServingError: with the original's code and text.
    """
    matched = (_PREDICT if method == "POST" else _STATUS).fullmatch(path)
    if matched is None:
        raise InvalidArgumentError(f"Malformed request: {method} {path}")
    spec = _spec(matched.groupdict())
    if method == "POST":
        if matched["method"].lower() != "predict":
            raise error_for(_UNIMPLEMENTED, f"this stand-in answers predict alone, not {matched['method']}")
        return _predict(models, spec, body)
    if not spec.name:
        raise InvalidArgumentError("Missing model name in request.")
    return (_metadata(models, spec) if matched["part"] else _status(models, spec)), ""


def _spec(asked: Mapping[str, str | None]) -> serving_pb2.ModelSpec:
    spec = serving_pb2.ModelSpec(name=urllib.parse.unquote(asked["model"] or ""))
    if asked["version"]:
        if len(asked["version"]) > _LONGEST_LENGTH or int(asked["version"]) > _LARGEST_VERSION:
            raise InvalidArgumentError(f"Failed to convert version: {asked['version']} to numeric.")
        spec.version.value = int(asked["version"])
    if asked["label"]:
        spec.version_label = urllib.parse.unquote(asked["label"])
    return spec


def _predict(models: ServedModels, spec: serving_pb2.ModelSpec, body: bytes) -> tuple[Any, str]:
    request = serving_pb2.PredictRequest(model_spec=spec)

    def inputs_of(signature: str) -> Mapping[str, graph_pb2.TensorInfo]:
        with models.acquire(spec) as servable:
            name = signature or "serving_default"
            definition = servable.session.signature_defs.get(name)
            if definition is None:
                raise InvalidArgumentError(f'Serving signature name: "{name}" not found in signature def')
            return dict(definition.inputs)

    row = read_predict_body(body, inputs_of, request)
    with models.acquire(spec) as servable:
        response = servable.predict(request)
    warning = _ROUNDED.format(inputs=", ".join(rounded)) if (rounded := rounded_inputs(request)) else ""
    return predict_body({name: decode(tensor) for name, tensor in sorted(response.outputs.items())}, row), warning


def _status(models: ServedModels, spec: serving_pb2.ModelSpec) -> Any:
    return {
        "model_version_status": [
            {
                "version": str(entry.version),
                "state": _STATES[entry.state],
                "status": {
                    "error_code": status_name(entry.status.error_code),
                    "error_message": entry.status.error_message,
                },
            }
            for entry in models.status(spec)
        ]
    }


def _metadata(models: ServedModels, spec: serving_pb2.ModelSpec) -> Any:
    with models.acquire(spec) as servable:
        signatures = {
            name: {
                "inputs": dict(_infos(definition.inputs)),
                "outputs": dict(_infos(definition.outputs)),
                "method_name": definition.method_name,
            }
            for name, definition in sorted(servable.session.signature_defs.items())
        }
        version = str(servable.version or 0)
    return {
        "model_spec": {"name": spec.name, "signature_name": "", "version": version},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }


def _infos(infos: Mapping[str, graph_pb2.TensorInfo]) -> Iterator[tuple[str, Any]]:
    for name, info in sorted(infos.items()):
        shape = {
            "dim": [{"size": str(dim.size), "name": ""} for dim in info.tensor_shape.dim],
            "unknown_rank": info.tensor_shape.unknown_rank,
        }
        yield name, {"dtype": enum_name(info.dtype), "tensor_shape": shape, "name": info.name}
