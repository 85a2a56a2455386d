"""The gate lets a sound model through and says in one sentence what is wrong with any other."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from export.local_server import child_environment
from export.signatures import expected_signatures
from export.validate import validate
from twin_tf.schema import load_schema
from twin_tf.tfrecord import frame


def gate(directory):
    command = [sys.executable, "-m", "export.validate", str(directory), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=child_environment(), check=False)
    report = json.loads(done.stdout)
    assert done.returncode == (0 if report["ok"] else 1)
    assert "Traceback" not in done.stderr
    return report, done.stderr


def failed(report):
    return {check["name"]: check["detail"] for check in report["checks"] if not check["ok"]}


def test_a_sound_model_passes_without_tensorflow(toys):
    report, _ = gate(toys / "good")
    assert report["ok"]
    names = [check["name"] for check in report["checks"]]
    assert names == [
        "directory", "no_xla", "loads", "signatures", "self_check", "warm_up", "parity", "tensorflow_free",
    ]  # fmt: skip
    parity = report["checks"][6]["figures"]
    assert parity["requests"] == 40
    assert parity["served_minus_trained_max"] <= 1e-6
    assert report["checks"][5]["figures"] == {"requests": 2.0}


@pytest.mark.parametrize(
    ("model", "check", "words"),
    [
        ("no_retrieve", "signatures", "signature retrieve is missing"),
        ("doubles", "signatures", "serving_default's output probability is float64, not float32"),
        ("xla", "no_xla", "must be compiled by XLA"),
        ("stale_table", "self_check", "the table disagrees with the weights"),
        ("logits", "parity", "give values that are no probabilities"),
        ("echo", "directory", "lacks assets.extra/schema.yaml"),
        ("nowhere", "directory", "is no model directory: it holds no saved_model.pb"),
    ],
)
def test_an_unfit_model_is_named_for_what_it_lacks(toys, model, check, words):
    report, _ = gate(toys / model)
    assert words in failed(report)[check]


def test_scores_unlike_the_trainers_are_counted(toys, tmp_path):
    model = shutil.copytree(toys / "good", tmp_path / "model")
    with np.load(model / "assets.extra/probes.npz") as file:
        content = dict(file)
    content["expected/probability"][3, 0] += 2e-5
    content["expected/probability"][:, -1] += 0.5 * (content["input/candidate_count"] < 5)  # padding is not compared
    np.savez(model / "assets.extra/probes.npz", **content)
    report, message = gate(model)
    words = "1 of 125 served probabilities differ from the trainer's by more than 1e-05 (largest difference 2e-05)"
    assert failed(report) == {"parity": words}
    assert message.strip().splitlines()[-1] == f"Error: {model} is not fit to be published: parity: {words}"


def test_a_schema_that_asks_for_other_inputs_is_found(toys, tmp_path):
    model = shutil.copytree(toys / "good", tmp_path / "model")
    path = model / "assets.extra/schema.yaml"
    path.write_text(path.read_text().replace("name: segment", "name: tribe"))
    detail = failed(gate(model)[0])["signatures"]
    assert "serving_default lacks the input user_tribe; serving_default has an extra input user_segment" in detail


def test_corrupt_variables_do_not_load(toys, tmp_path):
    model = shutil.copytree(toys / "good", tmp_path / "model")
    path = model / "variables/variables.data-00000-of-00001"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert "Checksum does not match" in failed(gate(model)[0])["loads"]


def test_a_corrupt_graph_and_a_corrupt_warm_up_are_found(toys, tmp_path):
    model = shutil.copytree(toys / "good", tmp_path / "model")
    (model / "assets.extra/tf_serving_warmup_requests").write_bytes(frame(b"\xff\xff"))
    assert "Failed to parse warmup record 0" in failed(gate(model)[0])["warm_up"]
    (model / "saved_model.pb").write_bytes(b"\xff" * 100)
    assert "saved_model.pb is corrupt" in failed(gate(model)[0])["no_xla"]


def test_a_process_with_tensorflow_is_no_judge(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", sys)
    report = validate(tmp_path)
    assert "this process imported TensorFlow; use a fresh one" in report.reason()


def test_the_contract_follows_the_schema():
    schema = load_schema("twin_tf/configs/complete_journey.yaml")
    signatures = expected_signatures(schema)
    inputs = signatures["serving_default"].inputs
    assert {name: (tensor.dtype, tensor.rank) for name, tensor in inputs.items() if name.startswith("history_")} == {
        "history_item": ("int64", 2),
        "history_length": ("int32", 1),
        "history_time": ("int64", 2),
        "history_quantity": ("int32", 2),
        "history_price": ("int32", 2),
        "history_discount": ("int32", 2),
    }
    assert "user_income" in inputs
    assert not [name for name in inputs if name.startswith("context_")]
    assert signatures["retrieve"].inputs == inputs
