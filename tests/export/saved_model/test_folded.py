"""What is folded is served from the table, and the server refuses a version whose table and weights disagree."""

import numpy as np
import pytest

from export.contract.file_manifest import write_manifest
from export.saved_model.served_weights import ServedWeights
from tests.export.toy_servable import in_cpp, with_variables
from tests.twin_tf import small_run
from tests.twin_tf.built_once import shared_root
from twin_tf.runs.run import load_run

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def model():
    return small_run.small_model(shared_root())


@pytest.fixture(scope="module")
def run(model):
    return load_run(shared_root() / "run")


def added(place, value):
    def change(array):
        array[place] += value
        return array

    return change


def key_of(run, variable):
    """Under which key an exported model holds a weight of the run."""
    served = ServedWeights(run.model)
    (key,) = (
        f"weights/{group}/{name}"
        for group in ("tables", "dense")
        for name, one in getattr(served, group).items()
        if one is variable
    )
    return key


STATES = """
import json, sys
from pathlib import Path
from export.protos import serving_pb2
from export.local_server.version_manager import VersionManager
names = {value: name for name, value in serving_pb2.ModelVersionStatus.State.items()}
found = {}
for base in sorted(Path(sys.argv[1]).iterdir()):
    manager = VersionManager("twin", base)
    manager.refresh()
    (entry,) = manager.status(None)
    found[base.name] = [names[entry.state], entry.status.error_message]
    manager.close()
print(json.dumps(found))
"""


def test_the_server_refuses_every_version_whose_table_and_weights_disagree(model, run, tmp_path, run_python):
    kernel, video = run.model.long_term.relevance.item_kernel, run.model.item_embedding.tables[0]
    used = run.model.item_embedding.item_features[700, 0].numpy()
    mutations = {
        "table": {"projection/table": added((801, 3), 0.01)},
        "nan": {"projection/table": added((5, 5), np.nan)},
        "w_h": {key_of(run, kernel): added((1, 1), 0.05)},
        "embedding": {key_of(run, video): added((used, slice(None)), 0.05)},
        "feature": {"weights/item_features": added((650, 2), 1)},
        "sound": {"weights_version": lambda version: version + 1},
    }
    for name, changes in mutations.items():
        (tmp_path / name).mkdir()
        with_variables(model, tmp_path / name / "1", changes)
        write_manifest(tmp_path / name / "1")  # else files.json would tell
    states = run_python(STATES, tmp_path)
    assert states.pop("sound") == ["AVAILABLE", ""]
    assert set(states) == set(mutations) - {"sound"}
    for name, (state, message) in states.items():
        assert state == "END", name
        words = "self_check: the projection table disagrees with the weights of this version"
        assert message.startswith("warmup record 0 (self_check): ") and words in message, name


@pytest.fixture(scope="module")
def probe(model):
    """A real request with a long history, cut to its lengths."""
    with np.load(model / "assets.extra/probes.npz", allow_pickle=False) as file:
        inputs = {name.removeprefix("input/"): file[name] for name in file.files if name.startswith("input/")}
    row = inputs["history_length"].argmax()
    length = inputs["history_length"][row]
    one = {name: value[row : row + 1] for name, value in inputs.items()}
    return {
        name: value[:, :length] if name.startswith("history_") and value.ndim == 2 else value
        for name, value in one.items()
    }


def test_serving_reads_the_folded_half_of_the_metric_from_the_table_alone(model, run, probe, tmp_path):
    """Rows of the table by gather, in both stages: W^h itself no longer matters, the table does."""
    kernel = key_of(run, run.model.long_term.relevance.item_kernel)
    folded = with_variables(model, tmp_path / "kernel", {kernel: lambda one: one * 7})
    moved = with_variables(model, tmp_path / "table", {"projection/table": lambda one: one[:, ::-1] * 3})
    calls = [(place, name, probe) for place in (model, folded, moved) for name in ("serving_default", "retrieve")]
    score, found, same_score, same_found, other_score, other_found = in_cpp(tmp_path / "calls", calls)
    np.testing.assert_array_equal(same_score["probability"], score["probability"])
    for name in ("position", "score"):
        np.testing.assert_array_equal(same_found[name], found[name])
    assert np.abs(other_score["probability"] - score["probability"]).max() > 1e-3
    assert (np.sort(other_found["position"]) != np.sort(found["position"])).any()


def test_values_are_computed_of_the_retrieved_alone(model, run, probe, tmp_path):
    """NaN in the embedding of what was not retrieved would show if V, or the live metric, looked at it."""
    video = run.model.item_embedding.tables[0]
    (found,) = in_cpp(tmp_path / "before", [(model, "retrieve", probe)])
    history = probe["history_item"][0]
    seen = set(history[np.unique(found["position"][found["valid"]])]) | set(history[-10:])
    seen |= set(probe["candidate_item"][0])
    rows = {int(one): row for row, one in enumerate(run.item_ids)}
    features = run.model.item_embedding.item_features.numpy()
    own = {int(one): int(features[rows[int(one)], 0]) for one in history}
    unseen = sorted({own[int(one)] for one in set(history) - seen} - {own.get(int(one), 1) for one in seen} - {1})
    assert len(unseen) > 20

    def nan_rows(places):
        return {key_of(run, video): added((np.array(places), slice(None)), np.nan)}

    spared = with_variables(model, tmp_path / "spared", nan_rows(unseen))
    struck = with_variables(model, tmp_path / "struck", nan_rows([own[int(history[found["position"][0, 0, 0]])]]))
    calls = [(place, "serving_default", probe) for place in (model, spared, struck)]
    before, without, through = in_cpp(tmp_path / "calls", calls)
    np.testing.assert_array_equal(without["probability"], before["probability"])
    assert np.isnan(through["probability"]).any()
