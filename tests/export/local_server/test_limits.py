"""Whatever a caller sends or leaves unsaid, the stand-in answers in its own form, and its memory stays its own."""

import contextlib
import json
import re
import socket
import types

import grpc
import pytest

from export.contract.errors import InvalidArgumentError, ResourceExhaustedError
from export.contract.tensors import encode, missing_values
from export.local_server.limits import Limits
from export.local_server.rest_server import RestServer
from export.local_server.server import LocalServer
from export.protos import config_pb2, graph_pb2, serving_pb2
from export.session.loaded_version import MOST_FILLED, _read_inputs
from tests.patience import PATIENCE_S

INT64, INT32, STRING, HALF = 9, 3, 7, 19
PREDICT = "POST /v1/models/twin:predict HTTP/1.1\r\nHost: x\r\n"


def tensor(shape, dtype=INT64, **fields):
    message = graph_pb2.Tensor(dtype=dtype, **fields)
    for size in shape:
        message.tensor_shape.dim.add(size=size)
    return message


# --- shapes that claim more than is there ---


def read(**tensors):
    definition = graph_pb2.SignatureDef(method_name="tensorflow/serving/predict")
    request = serving_pb2.PredictRequest()
    for name, message in tensors.items():
        definition.inputs[name].dtype = message.dtype
        request.inputs[name].CopyFrom(message)
    assert len(request.SerializeToString()) < 1024
    return _read_inputs(definition, request)


def test_a_few_missing_values_are_filled_as_tensorflow_does():
    assert read(item=tensor([1, 4], int64_val=[7, 8]))["item"].tolist() == [[7, 8, 8, 8]]


@pytest.mark.parametrize(
    "message",
    [
        tensor([1, 10**8], int64_val=[1]),
        tensor([10**4, 10**4], dtype=INT32),
        tensor([10**8], dtype=STRING, string_val=[b"x"]),
        tensor([10**8], dtype=HALF, half_val=[1]),
        tensor([10**8], dtype=1, float_val=b"1234"),
        tensor([1, MOST_FILLED + 2], int64_val=[1]),
    ],
    ids=["int64", "nothing at all", "text", "float16", "float32", "one too many"],
)
def test_a_shape_that_claims_much_more_than_it_holds_is_refused_unfilled(message, monkeypatch):
    monkeypatch.setattr("export.session.loaded_version.decode", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(ResourceExhaustedError, match="the shape of item claims more values than it holds"):
        read(item=message)


def test_many_shapes_that_claim_a_little_are_refused_together():
    half = tensor([MOST_FILLED // 2 + 2], int64_val=[1])
    with pytest.raises(ResourceExhaustedError, match="the shape of b claims more"):
        read(a=half, b=half)


@pytest.mark.parametrize(
    "message",
    [
        tensor([1 << 40, 1 << 40], int64_val=[1]),
        tensor([-1, 1], int64_val=[1]),
        tensor([1] * 65, int64_val=[1]),
        tensor([(1 << 63) - 1] * 70, int64_val=[1]),
        tensor([1 << 60], tensor_content=b"12345678"),
        tensor([2], dtype=999, int64_val=[1]),
        tensor([2], dtype=0, int64_val=[1]),
    ],
)
def test_a_shape_or_type_that_cannot_be_is_a_parsing_error(message):
    with pytest.raises(InvalidArgumentError, match="tensor parsing error: item"):
        read(item=message)


def test_a_long_shape_is_named_in_short():
    with pytest.raises(ValueError, match=r"have the shape \[1, 1, 1, 1, 1, 1, 1, 1\], and 99992 dimensions more"):
        missing_values(tensor([1] * 100_000))


# --- REST ---


class Models:
    """One model of one input each of numbers and text, which answers with the number's value."""

    def __init__(self):
        definition = graph_pb2.SignatureDef(method_name="tensorflow/serving/predict")
        definition.inputs["item"].dtype, definition.inputs["name"].dtype = INT64, STRING
        only = graph_pb2.SignatureDef(method_name="tensorflow/serving/predict")
        only.inputs["item"].dtype = INT64
        self.session = types.SimpleNamespace(signature_defs={"serving_default": definition, "item": only})

    @contextlib.contextmanager
    def acquire(self, spec):
        yield self

    def predict(self, request):
        response = serving_pb2.PredictResponse()
        encode(_read_inputs(self.session.signature_defs["item"], request)["item"], response.outputs["item"])
        return response

    def status(self, spec):
        raise AssertionError("a fault of the test's")


@pytest.fixture(scope="module")
def rest():
    server = RestServer(Models(), "127.0.0.1", 0, Limits(request_bytes=1 << 20, idle_seconds=PATIENCE_S))
    server.start()
    yield server.address
    server.stop()


def exchange(address, sent):
    """Everything that comes back on a connection until it is closed: (status, headers, body) of the first answer."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while piece := connection.recv(1 << 16):
            received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), headers, body[: int(headers["Content-Length"])]


def with_body(body, path="/v1/models/twin:predict"):
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def of_item(inputs):
    return b'{"signature_name": "item", "inputs": ' + inputs + b"}"


def nested(levels, inner=b"1"):
    return b"[" * levels + inner + b"]" * levels


MALFORMED = {
    "superscript length": (PREDICT.encode() + b"Content-Length: \xb2\r\n\r\n{}", 400, "Content-Length must be"),
    "superscript length in UTF-8": (PREDICT.encode() + "Content-Length: ²\r\n\r\n{}".encode(), 400, "must be a number"),
    "negative length": (PREDICT.encode() + b"Content-Length: -5\r\n\r\n{}", 400, "must be a number, not '-5'"),
    "signed length": (PREDICT.encode() + b"Content-Length: +2\r\n\r\n{}", 400, "must be a number"),
    "underscored length": (PREDICT.encode() + b"Content-Length: 1_0\r\n\r\n{}", 400, "must be a number"),
    "two lengths": (PREDICT.encode() + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400, "must be a number"),
    "length 10^30": (PREDICT.encode() + b"Content-Length: 1" + b"0" * 30 + b"\r\n\r\n{}", 413, "at most 1048576 bytes"),
    "length of 6,000 digits": (PREDICT.encode() + b"Content-Length: " + b"9" * 6000 + b"\r\n\r\n", 413, "at most"),
    "length 2 MiB": (PREDICT.encode() + b"Content-Length: 2097152\r\n\r\n" + b"x" * 2097152, 413, "at most"),
    "no length": (PREDICT.encode() + b"\r\n{}", 411, "Content-Length is missing"),
    "too short": (PREDICT.encode() + b"Content-Length: 20\r\n\r\n{}", 400, "the body ends after 2 of 20 bytes"),
    "chunked": (PREDICT.encode() + b"Transfer-Encoding: chunked\r\n\r\nzz\r\njunk\r\n0\r\n\r\n", 501, "no Transfer"),
    "no request at all": (b"\x16\x03\x01\x02\x00\x01\xff\xfe\r\n\r\n", 400, "Bad"),
    "HTTP/0.9": (b"blah\r\n\r\n", 400, "Bad request syntax"),
    "HTTP/7.1": (b"GET /v1/models/twin HTTP/7.1\r\n\r\n", 505, "Invalid HTTP version"),
    "another method": (b"PATCH /v1/models/twin HTTP/1.1\r\nHost: x\r\n\r\n", 501, "Unsupported method"),
    "a long line": (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", 414, "Too Long"),
    "many headers": (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431, "Too many headers"),
    "version of 5,000 digits": (
        b"GET /v1/models/twin/versions/" + b"9" * 5000 + b" HTTP/1.1\r\n\r\n", 400, "Failed to convert version",
    ),
    "superscript version": (b"GET /v1/models/twin/versions/\xb2 HTTP/1.1\r\n\r\n", 400, "Malformed request"),
    "a fault of the stand-in": (b"GET /v1/models/twin HTTP/1.1\r\n\r\n", 500, "stand-in: AssertionError"),
    "empty": (with_body(b""), 400, "The document is empty"),
    "invalid UTF-8": (with_body(b'{"inputs": "\xff\xfe"}'), 400, "JSON Parse error"),
    "900 nested lists": (with_body(of_item(nested(900))), 400, "nested deeper than 64 levels"),
    "900 nested lists of text": (with_body(of_item(nested(900, b'"x"'))), 400, "nested deeper than 64 levels"),
    "900 nested lists alone": (with_body(nested(900)), 400, "nested deeper than 64 levels"),
    "900 nested objects": (with_body(b'{"a":' * 900 + b"1" + b"}" * 900), 400, "nested deeper than 64 levels"),
    "100,000 nested lists": (with_body(nested(100_000)), 400, "JSON Parse error"),
    "lone surrogate as text": (
        with_body(b'{"inputs": {"item": [1], "name": ["\\ud800"]}}'), 400, "The surrogate pair in string is invalid.",
    ),
    "lone surrogate as a key": (with_body(b'{"inputs": {"\\uDFFF": [1]}}'), 400, "The surrogate pair"),
    "lone surrogate as a name": (with_body(b'{"signature_name": "\\uD800", "inputs": [1]}'), 400, "The surrogate pair"),
    "a number of 5,000 digits": (with_body(of_item(b"[" + b"9" * 5000 + b"]")), 400, "JSON Parse error"),
    "a number beyond int64": (with_body(of_item(b"[9223372036854775808]")), 400, "is not of expected type"),
    "infinity": (with_body(of_item(b"[Infinity]")), 400, "is not of expected type"),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_request_is_answered_in_json(rest, capfd, name):
    sent, status, words = MALFORMED[name]
    found, headers, body = exchange(rest, sent)
    assert headers["Content-Type"] == "application/json"
    content = json.loads(body)
    assert found == status, content
    assert list(content) == ["error"]
    assert words in content["error"]
    assert "Traceback" not in capfd.readouterr().err


def test_a_caller_that_goes_away_leaves_no_traceback(rest, capfd):
    host, port = rest.split(":")
    for _ in range(3):
        connection = socket.create_connection((host, int(port)), timeout=PATIENCE_S)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # closed with a reset
        connection.sendall(PREDICT.encode() + b"Content-Length: 1000\r\n\r\n{")
        connection.close()
    assert exchange(rest, with_body(of_item(b"[1]")))[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_sound_requests_share_a_connection_whatever_their_method(rest):
    get = b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
    host, port = rest.split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as connection:
        connection.sendall(get + with_body(of_item(b"[7]")) + b"GET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n")
        received = b""
        while piece := connection.recv(1 << 16):
            received += piece
    assert re.findall(rb"HTTP/1\.1 (\d+)", received) == [b"404", b"200", b"404"]


@pytest.mark.parametrize("number", [2**53, -(2**53), 2**53 + 1, -(2**53) - 1, 2**63 - 1])
def test_a_number_that_json_may_have_rounded_is_answered_with_a_warning(rest, number):
    status, headers, body = exchange(rest, with_body(of_item(f"[{number}]".encode())))
    assert (status, json.loads(body)) == (200, {"outputs": [number]})
    if abs(number) <= 2**53:
        assert "Warning" not in headers
    else:
        assert headers["Warning"].startswith('299 twin-local-server "item: numbers beyond 2^53, which many programs')


# --- connections ---


@contextlib.contextmanager
def local_server(**limits):
    """A server without a model."""
    server = LocalServer(config_pb2.ModelServerConfig(), port=0, rest_port=0, limits=Limits(**limits))
    server.start()
    try:
        yield server
    finally:
        server.stop(0)


SETTINGS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"  # how every HTTP/2 connection begins


@pytest.mark.parametrize(
    ("kind", "sent", "answered"),
    [
        ("rest_address", b"", b""),
        ("rest_address", b"GET /v1/mod", b""),
        ("rest_address", PREDICT.encode() + b"Content-Length: 9\r\n\r\n{", b"HTTP/1.1 408 "),
        ("address", b"", b""),
        ("address", SETTINGS, b"\0\0"),
    ],
    ids=["rest, silent", "rest, half a line", "rest, half a body", "grpc, silent", "grpc, no call"],
)
def test_a_connection_on_which_nothing_comes_is_closed(kind, sent, answered):
    with local_server(idle_seconds=0.3) as hasty:
        host, port = getattr(hasty, kind).split(":")
        with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as connection:
            connection.sendall(sent)
            received = b""
            while piece := connection.recv(1 << 16):  # the socket's time limit fails the test, nothing else ends it
                received += piece
    assert received.startswith(answered)
    if kind == "rest_address":
        assert bool(received) == bool(answered)


def test_a_message_beyond_the_limit_is_refused_by_code():
    with local_server(request_bytes=1 << 16) as server, grpc.insecure_channel(server.address) as channel:
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        with pytest.raises(grpc.RpcError) as raised:
            call(b"\0" * (1 << 17), timeout=PATIENCE_S)
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
