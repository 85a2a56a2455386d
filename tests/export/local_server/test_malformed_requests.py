"""Whatever is sent, the server answers with a code and lives on."""

import http.client
import json

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export.client.client import TwinClient
from export.local_server.server import start_local_server
from export.protos import graph_pb2, serving_pb2
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.integration

METHODS = (
    "PredictionService/Predict",
    "PredictionService/GetModelMetadata",
    "ModelService/GetModelStatus",
)
NEVER = {grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
NAMES = ("twin", "twin", "twin", "", "other")
SIGNATURES = ("", "serving_default", "item_projection", "item_projection", "self_check", "retrieve", "nope")
INPUTS = ("item", "probe", "history_item", "history_length", "history_time", "candidate_item", "candidate_count", "x")
DTYPES = (9, 9, 9, 3, 3, 1, 7, 0, 10, 17, 19, 23, 999, -1)
SIZES = (0, 1, 1, 2, 3, 1000, -1, 1 << 20, 1 << 40, (1 << 63) - 1)


@st.composite
def tensors(draw):
    message = graph_pb2.Tensor(dtype=draw(st.sampled_from(DTYPES)))
    message.tensor_shape.unknown_rank = draw(st.sampled_from((False,) * 9 + (True,)))
    for size in draw(st.lists(st.sampled_from(SIZES), max_size=4)):
        message.tensor_shape.dim.add(size=size)
    kind = draw(st.sampled_from(("content", "int64_val", "int_val", "string_val", "float_val", "nothing")))
    if kind == "content":
        message.tensor_content = draw(st.binary(max_size=40))
    if kind == "float_val":
        message.float_val = draw(st.binary(max_size=12))
    if kind == "string_val":
        message.string_val.extend(draw(st.lists(st.binary(max_size=5), max_size=3)))
    if kind in ("int64_val", "int_val"):
        bits = 63 if kind == "int64_val" else 31
        getattr(message, kind).extend(draw(st.lists(st.integers(-(1 << bits), (1 << bits) - 1), max_size=4)))
    return message


@st.composite
def predict_requests(draw):
    request = serving_pb2.PredictRequest()
    request.model_spec.name = draw(st.sampled_from(NAMES))
    request.model_spec.signature_name = draw(st.sampled_from(SIGNATURES))
    version = draw(st.none() | st.none() | st.integers(-(1 << 63), (1 << 63) - 1) | st.text(max_size=5))
    if isinstance(version, int):
        request.model_spec.version.value = version
    elif version:
        request.model_spec.version_label = version
    for name in draw(st.lists(st.sampled_from(INPUTS), max_size=3, unique=True)):
        request.inputs[name].CopyFrom(draw(tensors()))
    request.output_filter.extend(draw(st.lists(st.sampled_from(("found", "projection", "nope")), max_size=2)))
    return request.SerializeToString()


@st.composite
def spoilt(draw, source):
    """Bytes of a request with some of them replaced, cut or doubled."""
    data = bytearray(draw(source))
    for _ in range(draw(st.integers(0, 3))):
        if data:
            place = draw(st.integers(0, len(data) - 1))
            data[place : place + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
    return bytes(data)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from((*INPUTS, "b64", "inputs", "instances", "signature_name")), inner, max_size=3)
    ),
    max_leaves=12,
)
bodies = st.one_of(
    st.binary(max_size=60),
    values.map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries(
        {"signature_name": st.sampled_from(SIGNATURES)}, optional={"inputs": values, "instances": values}
    ).map(lambda value: json.dumps(value).encode()),
)
paths = st.one_of(
    st.sampled_from(("/v1/models/twin:predict",) * 6),
    st.sampled_from(
        ("/v1/models/twin/versions/1:predict", "/v1/models/twin/labels/a:predict", "/v1/models/twin/metadata")
    ),
    st.text("abc/:%{}0123456789vmodelstwin", max_size=30).map(lambda text: "/v1/models/" + text),
)
calls = st.one_of(
    st.tuples(st.just("Predict"), st.just(METHODS[0]), spoilt(predict_requests())),
    st.tuples(st.just("any"), st.sampled_from(METHODS), spoilt(predict_requests())),
    st.tuples(st.just("bytes"), st.sampled_from(METHODS), st.binary(max_size=60)),
    st.tuples(st.just("rest"), st.tuples(st.sampled_from(("POST", "POST", "GET")), paths), bodies),
)


@pytest.fixture(scope="module")
def server(toys, place, tmp_path_factory):
    base = tmp_path_factory.mktemp("base")
    place(toys / "good", base, 1)
    with start_local_server(base) as running:
        yield running


def send(server, channel, call):
    kind, method, body = call
    if kind == "rest":
        connection = http.client.HTTPConnection(server.rest_address, timeout=PATIENCE_S)
        connection.request(*method, body)
        response = connection.getresponse()
        content = json.loads(response.read())
        connection.close()
        assert response.status in (200, 400, 404, 501), content
        assert (response.status == 200) != ("error" in content)
        return
    try:
        channel.unary_unary(f"/tensorflow.serving.{method}")(body, timeout=PATIENCE_S)
    except grpc.RpcError as error:
        assert error.code() not in NEVER, error.details()


def bombard(server, examples):
    with grpc.insecure_channel(server.address) as channel:

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        )
        @given(calls)
        def each(call):
            send(server, channel, call)

        each()
    assert server.process.poll() is None
    with TwinClient(server.address, timeout_s=PATIENCE_S) as client:
        assert client.call("item_projection", {"item": np.array([[100]])})["found"].tolist() == [[True]]
    assert "Traceback" not in server.log.read_text()


def test_malformed_requests_get_a_code(server):
    bombard(server, 200)


@pytest.mark.faults
def test_ten_thousand_malformed_requests_get_a_code(server):
    bombard(server, 10_000)
