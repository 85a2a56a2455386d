"""The gate lets a sound model through and says in one sentence what is wrong with any other."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from export.contract.signatures import expected_signatures
from export.gate.auc_check import Comparison, compare
from export.gate.op_allowlist import LOADER, refused_operations, stock_operations
from export.gate.validate import validate
from export.protos import graph_pb2
from export.session.child_process import child_environment
from twin_tf.core.tfrecord import frame
from twin_tf.evaluation.metrics import MetricsAccumulator
from twin_tf.features.schema import load_schema

pytestmark = pytest.mark.integration


def gate(directory, *options):
    command = [sys.executable, "-m", "export.gate.validate", str(directory), "--json", *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, env=child_environment(), check=False)
    report = json.loads(done.stdout)
    assert done.returncode == (0 if report["ok"] else 1)
    assert "Traceback" not in done.stderr
    return report, done.stderr


MANY = """
import json, sys
from export.gate.limits import Limits
from export.gate.validate import validate
for directory, base, limits in json.loads(sys.argv[1]):
    report = validate(directory, base_path=base, limits=Limits(**limits))
    print(json.dumps(report.to_plain()))
"""


def gates(*calls):
    """Several directories in one process: (directory, base path or None, limits) each."""
    text = json.dumps([(str(directory), base and str(base), limits) for directory, base, limits in calls])
    command = [sys.executable, "-c", MANY, text]
    done = subprocess.run(command, capture_output=True, text=True, env=child_environment(), check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def detail_of(report, name):
    return next(check["detail"] for check in report["checks"] if check["name"] == name)


def failed(report):
    return {check["name"]: check["detail"] for check in report["checks"] if not check["ok"]}


def test_a_sound_model_passes_without_tensorflow(toys):
    report, _ = gate(toys / "good")
    assert report["ok"]
    names = [check["name"] for check in report["checks"]]
    assert names == [
        "directory", "content", "size", "no_xla", "operations", "server", "loads", "signatures", "self_check",
        "versions", "warm_up", "probes", "parity", "values", "lookup", "catalogue", "weights", "labels",
        "tensorflow_free",
    ]  # fmt: skip
    figures = {check["name"]: check["figures"] for check in report["checks"]}
    assert figures["parity"]["requests"] == 40
    assert figures["parity"]["served_minus_trained_max"] <= 1e-6
    assert figures["warm_up"] == {"requests": 2.0}
    assert figures["size"]["bytes"] == sum(p.stat().st_size for p in (toys / "good").rglob("*") if p.is_file())


UNFIT = {
    "no_retrieve": ("signatures", "signature retrieve is missing"),
    "doubles": ("signatures", "serving_default's output probability is float64, not float32"),
    "xla": ("no_xla", "must be compiled by XLA"),
    "stale_table": ("self_check", "the table disagrees with the weights"),
    "logits": ("parity", "give values that are no probabilities"),
    "echo": ("directory", "lacks assets.extra/schema.yaml"),
    "nowhere": ("directory", "is no model directory: it holds no saved_model.pb"),
    "host": ("operations", "PyFunc in __inference_host_check_"),
}


@pytest.fixture(scope="module")
def unfit(toys):
    return dict(zip(UNFIT, gates(*((toys / model, None, {}) for model in UNFIT)), strict=True))


@pytest.mark.parametrize("model", UNFIT)
def test_an_unfit_model_is_named_for_what_it_lacks(unfit, model):
    check, words = UNFIT[model]
    assert not unfit[model]["ok"]
    assert words in failed(unfit[model])[check]


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


def test_operations_that_reach_beyond_the_request_are_named_with_their_place(unfit):
    detail = failed(unfit["host"])["operations"]
    clauses = [clause.split(" in __inference_host_check_") for clause in detail.split("; ")]
    assert [name for name, _ in clauses] == ["PrintV2", "PyFunc", "RandomUniform", "ReadFile"]
    assert clauses[1][1].endswith("the stock image has no CPU kernel for it")
    assert clauses[3][1].endswith("it reaches beyond the request (files, state, chance, another compiler)")


def graph_of(operation, function=""):
    graph = graph_pb2.GraphDef()
    nodes = graph.node
    if function:
        nodes = graph.library.function.add(signature=graph_pb2.FunctionDef.Signature(name=function)).node_def
    nodes.add(name="node", op=operation)
    return graph


@pytest.mark.parametrize("operation", ["MatMul", "TopKV2", "ReadVariableOp", "While", "Assert", "NoOp", "GatherV2"])
def test_what_a_model_is_made_of_is_allowed(operation):
    assert refused_operations(graph_of(operation)) == []


@pytest.mark.parametrize(
    "operation",
    ["FusedTwin", "EagerPyFunc", "PyFuncStateless", "WriteFile", "ReadFile", "MatchingFiles", "TFRecordDatasetV2"]
    + ["XlaLaunch", "XlaDot", "HashTableV2", "RandomUniform", "Print", "RpcClient", "Abort", "ImmutableConst", "_Send"],
)
def test_what_a_server_must_not_run_is_refused(operation):
    (clause,) = refused_operations(graph_of(operation))
    assert clause.startswith(f"{operation} in the graph: ")


@pytest.mark.parametrize("operation", sorted(LOADER))
def test_files_and_variables_are_written_by_the_loader_alone(operation):
    assert operation in stock_operations()
    assert refused_operations(graph_of(operation, "__inference__traced_restore_77")) == []
    assert refused_operations(graph_of(operation, "__inference_serve_77")) == [
        f"{operation} in __inference_serve_77: only the loader may read and write files and variables"
    ]


def test_a_directory_above_its_budget_is_refused(toys):
    size = sum(p.stat().st_size for p in (toys / "good").rglob("*") if p.is_file())
    report, _ = gate(toys / "good", "--max-bytes", size - 1)
    assert failed(report) == {"size": f"{size:,} bytes are more than the budget of {size - 1:,}"}


def relabelled(model, copy, label=None):
    """A copy of a model with other clicks in its probes, or without any."""
    shutil.copytree(model, copy)
    with np.load(copy / "assets.extra/probes.npz") as file:
        content = {name: array for name, array in file.items() if name != "expected/label"}
    if label is not None:
        content["expected/label"] = label
    np.savez(copy / "assets.extra/probes.npz", **content)
    return copy


def labels(model):
    with np.load(model / "assets.extra/probes.npz") as file:
        return file["expected/label"]


def test_a_version_worse_than_the_published_one_is_refused(toys, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(toys / "good", base / "1")
    shutil.copytree(toys / "second", base / "2")
    worse = relabelled(toys / "good", tmp_path / "worse", labels(toys / "second"))  # the clicks are second's
    report, tolerated, better = gates(
        (worse, base, {}), (worse, base, {"auc_epsilon": 0.9}), (toys / "good", base, {"max_bytes": 10**7})
    )
    assert list(failed(report)) == ["auc"]
    figures = next(check for check in report["checks"] if check["name"] == "auc")["figures"]
    assert figures["published_auc"] == 1.0
    assert figures["auc"] < 0.9
    assert figures["targets"] == 125
    assert detail_of(report, "auc") == (
        f"{figures['auc']:.4f} against 1.0000 of version 2 on the same 125 targets (standard error of the difference "
        f"{figures['standard_error']:.4f}): worse by more than 0.002 and by more than chance explains or 0.01"
    )
    assert tolerated["ok"]
    assert better["ok"]


@pytest.mark.parametrize(
    ("loss", "standard_error", "epsilon", "worse"),
    [
        (0.0021, 0.0, 0.002, True),
        (0.0019, 0.0, 0.002, False),
        (0.0050, 0.003, 0.002, False),  # two standard errors are more
        (0.0070, 0.003, 0.002, True),
        (0.0099, 0.5, 0.002, False),  # hardly any probes
        (0.0101, 0.5, 0.002, True),
        (0.0101, 0.5, 0.020, False),
    ],
)
def test_chance_excuses_a_small_loss_alone(loss, standard_error, epsilon, worse):
    assert Comparison(0.7 - loss, 0.7, standard_error).worse(epsilon) == worse


def test_a_check_that_cannot_be_made_fails_unless_it_is_allowed(toys, tmp_path):
    for number in "23":
        shutil.copytree(toys / "second", tmp_path / "damaged" / number)
    (tmp_path / "damaged/3/variables/variables.index").unlink()
    shutil.copytree(tmp_path / "damaged/3", tmp_path / "broken/3")
    other = shutil.copytree(toys / "second", tmp_path / "other/2") / "assets.extra/schema.yaml"
    other.write_text(other.read_text().replace("boundaries: [1, 2, 3]", "boundaries: [1, 2, 4]"))
    (tmp_path / "empty").mkdir()
    good, nobody = toys / "good", np.zeros_like(labels(toys / "good"))
    unlabelled = relabelled(good, tmp_path / "unlabelled")
    reports = gates(
        (unlabelled, tmp_path / "damaged", {}),
        (unlabelled, tmp_path / "damaged", {"allow_unchecked": ["auc"]}),
        (unlabelled, tmp_path / "empty", {}),
        (relabelled(good, tmp_path / "nobody", nobody), tmp_path / "damaged", {}),
        (good, tmp_path / "damaged", {}),
        (good, tmp_path / "broken", {}),
        (good, tmp_path / "empty", {}),
        (good, tmp_path / "other", {"allow_unchecked": ["auc", "contract"]}),
        (good, tmp_path / "other", {"allow_new_contract": True}),
    )
    assert [report["ok"] for report in reports] == [False, True, True, False, True, False, True, False, True]
    said = [detail_of(report, "auc") for report in reports if report is not reports[7]]
    no_labels = "its probes carry no labels; export it again to have its AUC compared"
    assert said[0] == f"not compared: {no_labels}; --allow-unchecked auc lets it pass"
    assert said[1] == f"not compared: {no_labels}; as --allow-unchecked allows"
    assert said[2] == f"unknown: {no_labels}; no version to compare it with"
    assert said[3].startswith("not compared: its probes have targets of one class alone; --allow-unchecked")
    assert " of version 2 on the same 125 targets " in said[4]  # version 3 does not load: 2 is the last that does
    assert said[5].startswith("not compared (version 3 does not load: ")
    assert said[6] == "1.0000; no version to compare it with"
    assert said[7] == "not compared with a version of another contract, as --allow-new-contract allows"
    assert failed(reports[7]) == {
        "contract": "another one than that of version 2: its feature price.encoding.boundaries is [1.0, 2.0, 3.0], not "
        "[1.0, 2.0, 4.0]; clients encode by the one that is served; --allow-new-contract lets it pass"
    }


def test_the_compared_auc_is_the_exact_one_and_its_error_shrinks_with_the_targets():
    generator = np.random.default_rng(5)
    label = generator.random(400) < 0.3
    new, old = (np.round(label + generator.normal(size=400), 1) for _ in range(2))  # rounded: with ties
    found = compare(label, new, old)
    for scores, auc in ((new, found.auc), (old, found.published)):
        exact = MetricsAccumulator()
        exact.update(label, 1 / (1 + np.exp(-scores)), np.zeros(400, np.int64))
        assert auc == pytest.approx(exact.result().auc, abs=1e-12)
    four = compare(np.tile(label, 4), np.tile(new, 4), np.tile(old, 4))
    assert four.standard_error == pytest.approx(found.standard_error / 2)
    drawn = [compare(label[rows], new[rows], old[rows]) for rows in generator.integers(0, 400, (2000, 400))]
    spread = np.std([one.auc - one.published for one in drawn])  # what resampling the targets does to the difference
    assert found.standard_error == pytest.approx(spread, rel=0.1)
    assert compare(label, new, new).standard_error == 0


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
