"""REST, in TensorFlow Serving's shapes: what gRPC answers, REST answers too."""

import http.client
import json
import socket

import numpy as np
import pytest

from export.client.client import TwinClient
from export.local_server.server import start_local_server
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server(toys, place, tmp_path_factory):
    base = tmp_path_factory.mktemp("base")
    place(toys / "good", base, 12)
    with start_local_server(base) as running:
        yield running


def ask(server, method, path, content=None):
    connection = http.client.HTTPConnection(server.rest_address, timeout=PATIENCE_S)
    connection.request(method, path, None if content is None else json.dumps(content))
    response = connection.getresponse()
    answer = json.loads(response.read())
    assert response.headers["Content-Type"] == "application/json"
    connection.close()
    return response.status, answer


@pytest.mark.parametrize("path", ["/v1/models/twin:predict", "/v1/models/twin/versions/12:predict"])
def test_columns_and_rows_get_the_trainers_scores(toys, server, probes, path):
    inputs, expected = probes(toys / "good")
    plain = {name: value.tolist() for name, value in inputs.items()}
    status, answer = ask(server, "POST", path, {"inputs": plain, "signature_name": "serving_default"})
    assert status == 200
    np.testing.assert_allclose(answer["outputs"]["probability"], expected, atol=1e-6)
    assert answer["outputs"]["weights_version"] == [1] * 40
    rows = [{name: value[row] for name, value in plain.items()} for row in range(3)]
    status, answer = ask(server, "POST", path, {"instances": rows})
    assert status == 200
    assert [sorted(row) for row in answer["predictions"]] == [
        ["adjusted", "probability", "table_version", "unknown_items", "weights_version"]
    ] * 3
    np.testing.assert_allclose([row["probability"] for row in answer["predictions"]], expected[:3], atol=1e-6)


def test_one_input_needs_no_name(server):
    wanted = {"found": [[True, False]], "table_version": [1], "weights_version": [1]}
    for body in ({"inputs": [[100, 1]]}, {"inputs": {"item": [[100, 1]]}}):
        status, answer = ask(server, "POST", "/v1/models/twin:predict", {"signature_name": "item_projection", **body})
        assert status == 200
        with TwinClient(server.address, timeout_s=PATIENCE_S) as client:
            projection = client.call("item_projection", {"item": np.array([[100, 1]])})["projection"]
        np.testing.assert_array_equal(np.float32(answer["outputs"].pop("projection")), projection)
        assert answer["outputs"] == wanted
    body = {"signature_name": "item_projection", "instances": [[100], [1]]}
    assert [row["found"] for row in ask(server, "POST", "/v1/models/twin:predict", body)[1]["predictions"]] == [
        [True],
        [False],
    ]


def test_status_and_metadata_have_the_originals_shapes(server):
    state = {"version": "12", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path in ("/v1/models/twin", "/v1/models/twin/versions/12"):
        assert ask(server, "GET", path) == (200, {"model_version_status": [state]})
    status, answer = ask(server, "GET", "/v1/models/twin/metadata")
    assert status == 200
    assert answer["model_spec"] == {"name": "twin", "signature_name": "", "version": "12"}
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    assert sorted(signatures) == ["item_projection", "live_projection", "retrieve", "self_check", "serving_default"]
    item = signatures["item_projection"]["inputs"]["item"]
    assert item.pop("name").endswith(":0")
    free = {"size": "-1", "name": ""}
    assert item == {"dtype": "DT_INT64", "tensor_shape": {"dim": [free, free], "unknown_rank": False}}
    assert signatures["self_check"]["method_name"] == "tensorflow/serving/predict"


def test_other_paths_methods_and_bodies_are_answered(server):
    assert ask(server, "GET", "/metrics")[0] == 404
    status, answer = ask(server, "POST", "/v1/models/twin:classify", {})
    assert (status, answer["error"]) == (501, "this stand-in answers predict alone, not classify")
    host, port = server.rest_address.split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as raw:
        raw.sendall(b"POST /v1/models/twin:predict HTTP/1.1\r\nHost: x\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 411 ")
