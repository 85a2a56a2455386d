"""What of a version is damaged, or says something else, is one sentence; see also `test_mutations`."""

import contextlib
import json
import random
import subprocess
import sys

import numpy as np
import pytest

from export.contract.file_manifest import assets_digest, read_description, write_manifest
from export.contract.probe_file import Probes, load_probe_file
from export.contract.sweep_file import load_sweep
from export.gate.answer_checks import check_probes, check_values
from export.gate.provenance import check_content, check_served_digests, check_versions
from export.session.child_process import child_environment
from export.session.loaded_version import LoadedVersion
from tests.export.gate.mutations import edit_graph
from tests.export.toy_servable import with_variables
from twin_tf.features.contract import number_of

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::twin_tf.renamed_settings.RenamedSettingWarning"),
]


def test_the_gate_says_what_is_wrong_with_damaged_probes(copy):
    probes = copy / "assets.extra/probes.npz"
    probes.write_bytes(probes.read_bytes()[:-1000])
    write_manifest(copy)
    command = [sys.executable, "-m", "export.gate.validate", str(copy), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=child_environment(), check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    last = json.loads(done.stdout)["checks"][-2]  # what is not as it was exported is not loaded
    assert last["name"] == "content"
    assert last["detail"] == "the files of assets.extra are not those that were exported with the weights"


def test_the_graph_itself_says_which_assets_it_was_exported_with(copy):
    number = number_of(assets_digest(copy))
    assert check_served_digests(copy, {"assets": np.array([number])}) == []
    (copy / "assets.extra/probes.npz").write_bytes(b"")
    words = ["the model was exported with other files of assets.extra"]
    assert check_served_digests(copy, {"assets": np.array([number])}) == words


def test_a_description_that_is_damaged_is_one_sentence(copy):
    path = copy / "assets.extra/export.json"
    said, answer = json.loads(path.read_text()), {name: np.array([1]) for name in ("weights_version", "table_version")}
    for content, words in (
        ("[" * 900 + "]" * 900, "is nested more than 50 levels deep"),
        ('{"weights_version": ' + "9" * 5_000 + "}", "it holds a number of thousands of digits"),
        ('{"run": "\\ud800"}', "it holds half of a surrogate pair"),
        ("[]", "holds no mapping"),
        (json.dumps({**said, "table_version": None}), "says table_version None, which is no such number"),
    ):
        path.write_text(content)
        for read in (read_description, lambda model: check_versions(model, answer)):
            with pytest.raises(ValueError, match=words) as refused:
                read(copy)
            assert str(refused.value).startswith(str(path))


def test_weights_that_take_strange_contracts_for_their_own_are_refused(root, tmp_path):
    def with_another(understood):
        return np.append(understood, 5)

    model = with_variables(root / "new", tmp_path / "model", {"digests/earlier": with_another})
    write_manifest(model)
    words = "the weights take other contracts for their own than assets.extra/contract.json says"
    assert check_content(model).detail == words


def test_damaged_arrays_are_one_sentence(copy):
    path, draw = copy / "assets.extra/probes.npz", random.Random(1)
    content = path.read_bytes()
    for _ in range(200):
        place = draw.randrange(len(content))
        path.write_bytes(content[:place] + draw.randbytes(3) + content[place + draw.randrange(99) :])
        with contextlib.suppress(ValueError):  # some bytes of a zip file mean nothing
            load_probe_file(copy)
    path.write_bytes(content[:1000])
    with pytest.raises(ValueError, match=f"{path} is damaged: "):
        load_probe_file(copy)


def test_the_sweep_takes_every_hour_day_and_age(root):
    inputs = load_sweep(root / "new").requests.inputs
    second = inputs["request_time"] // 1000
    assert set(second // 3600 % 24) == set(range(24))
    assert len(set(second // 86400 % 7)) == 7
    ages = second[:, None] - inputs["history_time"] // 1000
    assert (ages >= 0).all() and (np.diff(inputs["history_time"]) >= 0).all()
    assert set(np.searchsorted([3600, 86400, 604800], ages, side="right").ravel()) == {0, 1, 2, 3}


def test_probes_of_another_type_or_shape_are_named(copy):
    whole = load_probe_file(copy)
    for name, change, words in (
        ("candidate_count", lambda a: a.astype(str), "holds candidate_count as str.* of 1 dimensions, not int32 of 1"),
        ("history_item", lambda a: a[:, 0], "holds history_item as int64 of 1 dimensions, not int64 of 2"),
        ("request_time", lambda a: a[1:], "holds arrays of different lengths"),
    ):
        with pytest.raises(ValueError, match=f"assets.extra/probes.npz {words}; export it again"):
            check_probes(copy, Probes({**whole.inputs, name: change(whole.inputs[name])}, whole.expected))
    with pytest.raises(ValueError, match="lacks probability"):
        check_probes(copy, Probes(whole.inputs, {}))


@pytest.mark.parametrize("signature", ["serving_default", pytest.param("retrieve", marks=pytest.mark.slow)])
def test_counts_that_changed_places_are_found(copy, signature):
    def exchange(saved):
        outputs = saved.meta_graphs[0].signature_def[signature].outputs
        one, other = outputs["unknown_items"], outputs["adjusted"]
        one.name, other.name = other.name, one.name

    edit_graph(exchange)(copy)
    version = LoadedVersion(copy)
    check = check_values(version, load_probe_file(copy), 1e-5)
    version.close()
    assert check.detail == f"{signature} does not count unknown items and adjusted values as they are"
