"""Client and local server, over the wire, in two processes."""

import signal
import socket
import subprocess
import sys
import threading
import time

import grpc
import numpy as np
import pytest

from export.client.client import TwinClient
from export.contract import errors
from export.local_server.server import start_local_server
from export.session.child_process import child_environment
from tests.patience import PATIENCE_S, PAUSE_S

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server(toys, place, tmp_path_factory):
    base = tmp_path_factory.mktemp("base")
    place(toys / "no_retrieve", base, 3)
    place(toys / "good", base, 12)
    with start_local_server(base) as running:
        yield running


@pytest.fixture
def client(server):
    with TwinClient(server.address, timeout_s=PATIENCE_S) as made:
        yield made


def until(condition):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_answers_equal_the_trainers_for_one_user_and_many(toys, client, probes):
    inputs, expected = probes(toys / "good")
    answer = client.predict(inputs)
    np.testing.assert_allclose(answer.probability, expected, atol=1e-6)
    assert answer.model_version == 12
    assert answer.weights_version.tolist() == [1] * 40
    assert answer.table_version.tolist() == [1] * 40
    known = (inputs["candidate_item"] >= 100) & (inputs["candidate_item"] < 150)
    real = np.arange(5) < inputs["candidate_count"][:, None]
    assert answer.unknown_items.tolist() == (~known & real).sum(axis=1).tolist()
    for row in (0, 1, 2):
        one = client.predict({name: value[row] for name, value in inputs.items()})
        np.testing.assert_allclose(one.probability[0], expected[row], atol=1e-6)


def test_a_user_without_history_may_send_none(toys, client, probes):
    inputs, expected = probes(toys / "good")
    assert inputs["history_length"][0] == 0
    row = {name: value[0] for name, value in inputs.items()}
    row |= {name: [] for name in ("history_item", "history_time", "history_price")}
    np.testing.assert_allclose(client.predict(row).probability[0], expected[0], atol=1e-6)


def test_threads_share_a_client(toys, client, probes):
    inputs, expected = probes(toys / "good")
    wrong = []

    def work(row):
        for _ in range(10):
            answer = client.predict({name: value[row] for name, value in inputs.items()})
            if not np.allclose(answer.probability[0], expected[row], atol=1e-6):
                wrong.append(row)

    threads = [threading.Thread(target=work, args=(row,)) for row in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_other_signatures_outputs_and_status(client):
    projection = client.call("item_projection", {"item": np.array([[100, 1], [149, 150]])})
    assert projection["projection"].shape == (2, 2, 8)
    assert projection["found"].tolist() == [[True, False], [True, False]]
    only = client.call("self_check", {"probe": np.array([-1], np.int32)}, outputs=["checked"])
    assert {name: value.tolist() for name, value in only.items()} == {"checked": [50]}
    assert client.model_status() == {12: "AVAILABLE"}


def test_client_side_limits_name_the_setting(toys, server, probes):
    inputs, _ = probes(toys / "good")
    with (
        TwinClient(server.address, max_receive_bytes=100, timeout_s=PATIENCE_S) as small,
        pytest.raises(errors.ResourceExhaustedError, match="raise max_receive_bytes or send less"),
    ):
        small.predict(inputs)
    with socket.socket() as silent:  # takes the connection and never says a word
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with (
            TwinClient(f"127.0.0.1:{silent.getsockname()[1]}") as waiting,
            pytest.raises(errors.DeadlineExceededError, match=r"within 0\.2 s; raise timeout_s or send less"),
        ):
            waiting.predict(inputs, timeout_s=0.2)


def closed_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def test_an_unreachable_server_is_one_sentence(toys, probes):
    address = f"127.0.0.1:{closed_port()}"
    inputs, _ = probes(toys / "good")
    with TwinClient(address) as nobody, pytest.raises(errors.UnavailableError) as raised:
        nobody.predict(inputs)
    assert raised.value.message.startswith(f"no server answers at {address} (")
    assert raised.value.message.endswith(
        "check that the server runs and listens there (`twin-tf serve` starts a local one)"
    )
    assert "\n" not in raised.value.message


def test_with_one_of_two_servers_gone_every_call_succeeds(toys, server, probes):
    inputs, expected = probes(toys / "good")
    with TwinClient([f"127.0.0.1:{closed_port()}", server.address], timeout_s=PATIENCE_S) as both:
        for _ in range(20):
            np.testing.assert_allclose(both.predict(inputs).probability, expected, atol=1e-6)


@pytest.mark.parametrize("target", ["localhost", "localhost:", ":8500", "localhost:0", "localhost:99999", "a:b"])
def test_a_target_without_a_port_is_refused(target):
    with pytest.raises(ValueError, match="must read host:port, for example 127.0.0.1:8500"):
        TwinClient(target)


def test_the_client_process_holds_no_tensorflow_and_nothing_else_heavy(run_python):
    code = """
import json, os, sys
os.environ.pop("TF_USE_LEGACY_KERAS", None)
import export.client.client, export.client.async_client
heavy = {"tensorflow", "tf_keras", "keras", "pyarrow", "pandas", "scipy", "yaml", "click", "rich"}
found = sorted({name.split(".")[0] for name in sys.modules} & heavy)
print(json.dumps([found, os.environ.get("TF_USE_LEGACY_KERAS")]))
"""
    assert run_python(code) == [[], None]  # the process may use Keras 3


STOCK = """
import json, sys
import grpc, numpy as np, tensorflow as tf
import export.client.client  # both sets of messages live in one process
from tensorflow_serving.apis import (get_model_metadata_pb2, get_model_status_pb2, model_service_pb2_grpc, predict_pb2,
                                     prediction_service_pb2_grpc)
channel = grpc.insecure_channel(sys.argv[1])
stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
request = predict_pb2.PredictRequest()
request.model_spec.name = "twin"
with np.load(sys.argv[2]) as file:
    for name in file.files:
        if name.startswith("input/"):
            request.inputs[name[6:]].CopyFrom(tf.make_tensor_proto(file[name]))
    expected = file["expected/probability"]
response = stub.Predict(request, 20)
got = {name: tf.make_ndarray(value) for name, value in response.outputs.items()}
facts = {"largest": float(np.abs(got["probability"] - expected).max()), "version": response.model_spec.version.value,
         "signature": response.model_spec.signature_name, "names": sorted(got),
         "versions": sorted(set(got["weights_version"].tolist())),
         "typed": len(response.outputs["probability"].float_val)}
one = predict_pb2.PredictRequest()  # single values travel in int64_val
one.model_spec.name, one.model_spec.signature_name = "twin", "item_projection"
one.inputs["item"].CopyFrom(tf.make_tensor_proto([[100]], tf.int64))
facts["found"] = tf.make_ndarray(stub.Predict(one, 20).outputs["found"]).tolist()
status = get_model_status_pb2.GetModelStatusRequest()
status.model_spec.name = "twin"
answer = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(status, 20)
facts["status"] = [[s.version, s.state, s.status.error_code] for s in answer.model_version_status]
metadata = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
metadata.model_spec.name = "twin"
signatures = get_model_metadata_pb2.SignatureDefMap()
packed = stub.GetModelMetadata(metadata, 20).metadata["signature_def"]
facts["unpacked"] = packed.Unpack(signatures)
item = signatures.signature_def["item_projection"].inputs["item"]
facts["item"] = [item.dtype, len(item.tensor_shape.dim), signatures.signature_def["retrieve"].method_name]
request.model_spec.version_label = "stable"
try:
    stub.Predict(request, 20)
except grpc.RpcError as error:
    facts["label"] = [error.code().name, error.details()]
print(json.dumps(facts))
"""


def test_the_stock_client_can_call(toys, server, run_python):
    facts = run_python(STOCK, server.address, toys / "good" / "assets.extra" / "probes.npz")
    assert facts.pop("largest") <= 1e-6
    assert facts == {
        "version": 12,
        "signature": "serving_default",
        "names": ["adjusted", "probability", "table_version", "unknown_items", "weights_version"],
        "versions": [1],
        "typed": 200,
        "found": [[True]],
        "status": [[12, 30, 0]],
        "unpacked": True,
        "item": [9, 2, "tensorflow/serving/predict"],
        "label": ["INVALID_ARGUMENT", "Unrecognized servable version label: stable"],
    }


def test_health_and_foreign_bytes(server):
    with grpc.insecure_channel(server.address) as channel:
        assert channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=PATIENCE_S) == b"\x08\x01"
        with pytest.raises(grpc.RpcError) as raised:
            channel.unary_unary("/tensorflow.serving.PredictionService/Predict")(b"\xff\xff", timeout=PATIENCE_S)
        assert raised.value.code() == grpc.StatusCode.INTERNAL
        with pytest.raises(grpc.RpcError) as raised:
            channel.unary_unary("/tensorflow.serving.PredictionService/Classify")(b"", timeout=PATIENCE_S)
        assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_versions_swap_under_load_and_a_refused_one_changes_nothing(toys, place, probes, tmp_path):
    place(toys / "good", tmp_path, 1)
    inputs, first = probes(toys / "good")
    _, second = probes(toys / "second")
    expected = {1: first, 2: second}
    seen, failures, stop = [], [], threading.Event()

    by_thread = []

    def load(client):
        mine = []
        by_thread.append(mine)
        while not stop.wait(PAUSE_S):
            try:
                answer = client.predict(inputs)
            except errors.ServingError as error:
                failures.append(str(error))
                continue
            version = answer.model_version
            if answer.weights_version.tolist() != [version] * 40:
                failures.append("versions mixed")
            if not np.allclose(answer.probability, expected[version], atol=1e-6):
                failures.append("scores mixed")
            mine.append(version)
            seen.append(version)

    with (
        start_local_server(tmp_path, poll_seconds=0.1) as running,
        TwinClient(running.address, timeout_s=PATIENCE_S) as client,
    ):
        threads = [threading.Thread(target=load, args=(client,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            until(lambda: len(seen) > 20)
            place(toys / "second", tmp_path, 2)
            until(lambda: seen[-1] == 2)
            place(toys / "stale_table", tmp_path, 3)
            until(lambda: 3 in client.model_status() and client.model_status()[3] != "LOADING")
            count = len(seen)
            until(lambda: len(seen) > count + 20)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert failures == []
        assert [mine == sorted(mine) for mine in by_thread] == [True] * 3  # across threads answers may overtake
        assert set(seen) == {1, 2}
        status = client.model_status()
        assert status[3].startswith("END: warmup record 1 (self_check): assertion failed: [the table disagrees")
        assert status[2] == "AVAILABLE"
        assert status[1] == "END"


def test_sigterm_ends_the_server_cleanly(toys, place, tmp_path):
    place(toys / "good", tmp_path, 1)
    log = tmp_path / "server.log"
    with start_local_server(tmp_path, log=log) as running:
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(PATIENCE_S) == 0
    text = log.read_text()
    assert "stand-in for tensorflow_model_server" in text
    assert "for development and tests only" in text
    assert "unloaded version 1" in text
    assert "Traceback" not in text


def serve(*arguments):
    command = [sys.executable, "-m", "export.local_server", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, env=child_environment(), timeout=PATIENCE_S, check=False
    )


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda base, toys: None, "is no directory; give the one that holds the version directories"),
        (lambda base, toys: (base / "x").mkdir(parents=True), "holds no version: a version is a directory named by a"),
        (
            lambda base, toys: (base / "1").mkdir(parents=True),
            "for example 1/; base holds no version of ours and left alone: 1 (empty)",
        ),
        (
            lambda base, toys: (base / "1" / "variables").mkdir(parents=True),
            "cannot be served: {base}/1 is no model directory: it holds no saved_model.pb",
        ),
    ],
)
def test_nothing_to_serve_is_one_sentence_and_exit_1(toys, tmp_path, make, sentence):
    base = tmp_path / "base"
    make(base, toys)
    done = serve("--model_base_path", base, "--port", 0)
    assert done.returncode == 1
    assert done.stdout == ""
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    assert sentence.format(base=base) in last
    assert "Traceback" not in done.stderr


def test_a_version_that_fails_its_warm_up_and_a_taken_port_are_refused(toys, server, place, tmp_path):
    place(toys / "stale_table", tmp_path, 1)
    with (
        pytest.raises(ValueError, match=r"^version 1 in .* cannot be served: warmup record 1 \(self_check\)"),
        start_local_server(tmp_path),
    ):
        pytest.fail("it started")
    place(toys / "good", tmp_path, 2)
    done = serve("--model_base_path", tmp_path, "--port", server.address.rpartition(":")[2])
    assert done.returncode == 1
    assert "choose a free port, or --port 0 to be given one" in done.stderr
    assert serve("--no_such_flag").returncode == 2
