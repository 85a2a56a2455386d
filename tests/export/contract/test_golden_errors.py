"""Bad requests get TensorFlow Serving's codes and texts: one file of them, replayed here and against a real server.

TWIN_SERVING_ADDRESS=host:8500 TWIN_SERVING_REST=host:8501 TWIN_SERVING_MODEL=twin pytest -k golden
"""

import http.client
import json
import os
from pathlib import Path

import grpc
import numpy as np
import pytest
import yaml

from export.contract.tensors import encode, numpy_dtype
from export.local_server.server import start_local_server
from export.protos import graph_pb2, serving_pb2
from tests.patience import PATIENCE_S
from tests.twin_tf.built_once import shared_root
from tests.twin_tf.small_run import small_model

pytestmark = pytest.mark.integration

GOLDEN = yaml.safe_load((Path(__file__).parents[1] / "golden_errors.yaml").read_text())
METHODS = {
    "Predict": ("PredictionService", serving_pb2.PredictRequest),
    "GetModelMetadata": ("PredictionService", serving_pb2.GetModelMetadataRequest),
    "GetModelStatus": ("ModelService", serving_pb2.GetModelStatusRequest),
    "Nope": ("PredictionService", serving_pb2.PredictRequest),
}
SERVER = "/tensorflow.serving."


@pytest.fixture(scope="module")
def local(place, tmp_path_factory):
    base = tmp_path_factory.mktemp("base")
    place(small_model(shared_root()), base, 12)
    with start_local_server(base) as server:
        yield server.address, server.rest_address, "twin"


@pytest.fixture(scope="module")
def real():
    address = os.environ.get("TWIN_SERVING_ADDRESS")
    if not address:
        pytest.skip(
            "no real server: set TWIN_SERVING_ADDRESS=host:8500 (and TWIN_SERVING_REST=host:8501) to replay there"
        )
    return address, os.environ.get("TWIN_SERVING_REST"), os.environ.get("TWIN_SERVING_MODEL", "twin")


def good_inputs(channel, model, signature):
    """A valid request of a signature, all of whose tensors hold ones, made from what the server says of itself."""
    request = serving_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = model
    answer = channel.unary_unary(f"{SERVER}PredictionService/GetModelMetadata")(
        request.SerializeToString(), timeout=PATIENCE_S
    )
    packed = serving_pb2.GetModelMetadataResponse.FromString(answer).metadata["signature_def"]
    infos = serving_pb2.SignatureDefMap.FromString(packed.value).signature_def[signature].inputs
    inputs = {}
    for name, info in infos.items():
        inputs[name] = graph_pb2.Tensor()
        encode(np.ones([1] * len(info.tensor_shape.dim), numpy_dtype(info.dtype)), inputs[name])
    return inputs


def tensor(written):
    message = graph_pb2.Tensor(dtype=written["dtype"])
    if written["shape"] is None:
        message.tensor_shape.unknown_rank = True
    for size in written["shape"] or []:
        message.tensor_shape.dim.add(size=size)
    message.tensor_content = bytes.fromhex(written.get("content", ""))
    message.int64_val.extend(written.get("int64_val", []))
    message.string_val.extend(text.encode() for text in written.get("string_val", []))
    return message


def grpc_answer(case, address, model):
    """The canonical code's name and the message that a server gives to a golden case."""
    method = case.get("method", "Predict")
    service, kind = METHODS[method]
    request = kind()
    with grpc.insecure_channel(address) as channel:
        if case.get("model", model) is not None:
            spec = request.model_spec
            spec.name = case.get("model", model)
            spec.signature_name = case.get("signature", case.get("good", ""))
            if "version" in case:
                spec.version.value = case["version"]
            if "label" in case:
                spec.version_label = case["label"]
        if method == "Predict":
            inputs = good_inputs(channel, model, case["good"]) if "good" in case else {}
            inputs |= {
                name: tensor(written) for name, written in (case.get("change", {}) | case.get("add", {})).items()
            }
            for name in inputs.keys() - set(case.get("drop", [])):
                request.inputs[name].CopyFrom(inputs[name])
            request.output_filter.extend(case.get("outputs", []))
        if method == "GetModelMetadata":
            request.metadata_field.extend(case["fields"])
        try:
            channel.unary_unary(f"{SERVER}{service}/{method}")(request.SerializeToString(), timeout=PATIENCE_S)
        except grpc.RpcError as error:
            return error.code().name, error.details()
    return "OK", ""


def rest_answer(case, address, model):
    """The HTTP status and the `error` that a server gives to a golden case."""
    connection = http.client.HTTPConnection(address, timeout=PATIENCE_S)
    path = "/v1/models" + case.get("path", "/{model}:predict").replace("{model}", model)
    connection.request(case.get("method", "POST"), path, case.get("body"))
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, json.loads(content)["error"]


def agrees(case, model, code, text):
    expected = case.get("code", case.get("status"))
    assert code == expected, text
    if "text" in case:
        assert text == case["text"].replace("{model}", model)
    assert case.get("contains", "") in text


def by_name(kind):
    return pytest.mark.parametrize("case", GOLDEN[kind], ids=[case["name"] for case in GOLDEN[kind]])


@by_name("grpc")
def test_the_stand_in_says_what_tensorflow_serving_says(case, local):
    agrees(case, local[2], *grpc_answer(case, local[0], local[2]))


@by_name("rest")
def test_the_stand_in_says_over_rest_what_tensorflow_serving_says(case, local):
    agrees(case, local[2], *rest_answer(case, local[1], local[2]))


def test_a_real_server_says_the_same(real):
    address, rest, model = real
    for case in GOLDEN["grpc"]:
        agrees(case, model, *grpc_answer(case, address, model))
    for case in GOLDEN["rest"] if rest else ():
        agrees(case, model, *rest_answer(case, rest, model))


def test_what_the_golden_cases_start_from_is_answered(local):
    for signature in ("item_projection", "serving_default"):
        assert grpc_answer({"good": signature}, local[0], local[2]) == ("OK", "")
    assert len(GOLDEN["grpc"]) >= 25
