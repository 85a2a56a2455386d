"""What was exported cannot be changed unseen: assets, weights, catalogue, probes, signatures, versions.

One model, exported by today's code from the golden run, and copies of it with one thing changed. Who changes a file may
rewrite the list of files too: what the weights say of the assets finds it.
"""

import contextlib
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tensorflow.core.protobuf import saved_model_pb2

from export.client.client import TwinClient
from export.client.contract_check import check_answer
from export.client.replay import load_probes, one_request
from export.contract.errors import FailedPreconditionError
from export.contract.file_manifest import MANIFEST, fault, write_manifest
from export.contract.probe_file import load_probe_file
from export.contract.sweep_file import load_sweep
from export.gate.answer_checks import check_catalogue, check_lookup, check_probes, check_values, check_weights
from export.gate.limits import Limits
from export.gate.provenance import (
    SERVER_VERSION,
    check_content,
    check_contract,
    check_server,
    check_versions,
)
from export.local_server.server import start_local_server
from export.local_server.version_manager import VersionManager
from export.protos import graph_pb2
from export.session.checkpoint import Checkpoint
from export.session.loaded_version import LoadedVersion
from tests.export.toy_servable import with_variables
from tests.patience import PATIENCE_S
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.features.encoders import FeatureEncoder
from twin_tf.features.schema import load_schema

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::twin_tf.renamed_settings.RenamedSettingWarning"),
]


def edited(model, name, before, after):
    """A file of the assets with another text, and the list of files with its digest."""
    path = model / "assets.extra" / name
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after, 1), encoding="utf-8")


def resigned(model):
    """Makes contract and list of files anew from what lies there, as somebody who knows of them would."""
    extra = model / "assets.extra"
    (extra / "contract.json").unlink()
    FeatureEncoder.load(extra).save(extra)
    write_manifest(model)


def arrays_of(path):
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def changed_arrays(model, name, **changes):
    path = model / "assets.extra" / name
    np.savez_compressed(path, **{**arrays_of(path), **changes})


def test_a_new_export_says_where_it_comes_from(root):
    assert check_content(root / "new").ok
    assert fault(root / "new") == ""
    own = FeatureEncoder.load(root / "new/assets.extra").contract
    assert own.digest == FeatureEncoder.load(root / "run").contract.digest
    assert json.loads((root / "new/assets.extra/export.json").read_text())["contract"] == own.digest
    assert own.digest[:16] in check_content(root / "new").detail


def test_an_earlier_export_is_said_to_be_one(root):
    check = check_content(root / "model")
    assert check.ok
    assert check.detail == "made before there were digests: assets.extra cannot be tied to the weights"


EDITS = {
    "two values of a vocabulary swapped": ("vocabularies/age_group.json", "swap"),
    "a boundary moved": ("schema.yaml", ("- 2.0\n", "- 2.5\n")),
    "ms made s": ("schema.yaml", ("unit: ms", "unit: s")),
    "max_length changed": ("schema.yaml", ("max_length: 60", "max_length: 70")),
}


@pytest.mark.parametrize("case", EDITS)
def test_edited_assets_are_refused_with_and_without_their_list(copy, case):
    name, change = EDITS[case]
    if change == "swap":
        first, second = json.loads((copy / "assets.extra" / name).read_text())["values"][:2]
        change = (f'"{first}", "{second}"', f'"{second}", "{first}"')
    edited(copy, name, *change)
    assert check_content(copy).detail.startswith(f"assets.extra/{name} ")
    with pytest.raises(ConfigError, match=f"{name} was changed after it was made"):
        FeatureEncoder.load(copy / "assets.extra")  # as a client does
    resigned(copy)
    assert fault(copy) == ""
    check = check_content(copy)
    assert not check.ok
    assert "schema and vocabularies in assets.extra are not those that the weights were trained with" in check.detail


def test_a_missing_vocabulary_and_a_stray_file_are_refused(copy):
    (copy / "assets.extra/vocabularies/age_group.json").unlink()
    assert check_content(copy).detail == "assets.extra/vocabularies/age_group.json is missing"
    with pytest.raises(ConfigError, match="no fitted vocabulary or boundaries for age_group"):
        FeatureEncoder.load(copy / "assets.extra")
    write_manifest(copy)
    assert not check_content(copy).ok
    (copy / "assets.extra/vocabularies/stray.json").write_text("{}")
    assert "assets.extra/vocabularies/stray.json is not in assets.extra/files.json" in check_content(copy).detail


@pytest.mark.parametrize("name", ["contract.json", "files.json", "probes.npz", "sweep.npz", "catalogue.json"])
def test_no_digest_can_be_taken_away(copy, name):
    (copy / "assets.extra" / name).unlink()
    assert not check_content(copy).ok
    if name != "files.json":
        write_manifest(copy)
        assert not check_content(copy).ok


@pytest.mark.parametrize("content", ["[]", "{", '{"x": 5}', "{}", '{"saved_model.pb": {"bytes": "1", "sha256": 2}}'])
def test_a_list_of_files_that_is_none_is_said_to_be_damaged(copy, content):
    (copy / MANIFEST).write_text(content)
    assert fault(copy).startswith(MANIFEST)


def test_other_probes_are_refused_though_the_list_has_them(copy):
    probability = load_probe_file(copy).expected["probability"] + 0.001
    changed_arrays(copy, "probes.npz", **{"expected/probability": probability})
    write_manifest(copy)
    assert check_content(copy).detail == "the files of assets.extra are not those that were exported with the weights"


def test_probes_have_a_floor(copy, root):
    whole = load_probe_file(root / "new")
    assert check_probes(copy, whole).ok
    none = {"input/candidate_count": np.zeros_like(whole.inputs["candidate_count"])}
    changed_arrays(copy, "probes.npz", **none)
    assert "0 candidates say too little: 10 are needed" in check_probes(copy, load_probe_file(copy)).detail
    one = {name: value[:1] for name, value in arrays_of(root / "new/assets.extra/probes.npz").items()}
    np.savez_compressed(copy / "assets.extra/probes.npz", **one)
    assert check_probes(copy, load_probe_file(copy)).detail.startswith("1 probes say too little: 10 are needed")
    changed_arrays(copy, "sweep.npz", users=np.zeros(20, np.int64))
    assert "the probes are of 1 user; 2 are needed" in check_probes(copy, whole).detail
    ages = load_sweep(copy).requests.inputs["user_age_group"]
    changed_arrays(copy, "sweep.npz", **{"input/user_age_group": np.minimum(ages, 2)})
    assert "the sweep leaves out values of age_group" in check_probes(copy, whole).detail


def lookup_of(version):
    return check_lookup(version, load_schema(version.version_dir / "assets.extra/schema.yaml"))


def values_of(version):
    return check_values(version, load_probe_file(version.version_dir), 1e-5)


@contextlib.contextmanager
def loaded(model):
    version = LoadedVersion(model)
    try:
        yield version
    finally:
        version.close()


def test_every_signature_says_what_the_trainer_says(root):
    with loaded(root / "new") as version:
        values, lookup = values_of(version), lookup_of(version)
    assert values.ok, values.detail
    assert values.figures["retrieved_alike"] >= 0.99
    assert values.figures["sweep_served_minus_trained_max"] < 1e-5
    assert lookup.ok and lookup.detail == "all 120 items are found in their rows, and no others", lookup.detail
    assert check_catalogue(root / "new").detail == "120 items with ids and features as they were exported"


def swap(values):
    values[[3, 4]] = values[[4, 3]]
    return values


def roll(values):
    return np.roll(values, 1, axis=0)


CATALOGUES = {
    "lookup/item_rows": (swap, "it has other ids in its rows than were exported"),
    "lookup/ids": (roll, "it has other ids in its rows than were exported"),
    "weights/item_features": (swap, "its items have other features than were exported"),
}


@pytest.mark.parametrize("name", CATALOGUES)
def test_items_in_the_rows_of_others_are_found(root, tmp_path, name):
    change, words = CATALOGUES[name]
    assert check_catalogue(with_variables(root / "new", tmp_path / "model", {name: change})).detail == words


def test_ids_that_are_looked_up_wrongly_are_found(root, tmp_path):
    with loaded(with_variables(root / "new", tmp_path / "model", {"lookup/starts": roll})) as version:
        assert "items of the catalogue are not found, for example " in lookup_of(version).detail


def test_projections_that_are_not_the_trainers_are_found(root, tmp_path):
    with loaded(with_variables(root / "new", tmp_path / "model", {"projection/table": swap})) as version:
        assert "item_projection differs from the trainer's" in values_of(version).detail


def test_a_row_that_no_probe_uses_is_found_if_it_is_no_number(root, tmp_path):
    assert check_weights(root / "new").ok

    def broken(table):
        table[-1, 0] = np.nan
        return table

    table_name = next(name for name in names_of(root / "new") if "user_embeddings-age_group" in name)
    model = with_variables(root / "new", tmp_path / "model", {table_name: broken})
    check = check_weights(model)
    assert not check.ok
    assert check.detail.startswith(f"{table_name} has a number in row ")


def names_of(model):
    with Checkpoint(model) as checkpoint:
        return checkpoint.names


def saved_of(model):
    return graph_pb2.SavedModel.FromString((model / "saved_model.pb").read_bytes())


def test_outputs_that_changed_places_are_found(copy):
    saved = saved_model_pb2.SavedModel.FromString((copy / "saved_model.pb").read_bytes())
    outputs = saved.meta_graphs[0].signature_def["live_projection"].outputs
    found, live = outputs["found"].name, outputs["live"].name
    outputs["found"].name, outputs["live"].name = live, found
    (copy / "saved_model.pb").write_bytes(saved.SerializeToString())
    with loaded(copy) as version:
        check = lookup_of(version)
    assert check.detail == "live_projection does not tell known items from others by found and live"


def test_versions_are_those_of_the_files(copy):
    said = json.loads((copy / "assets.extra/export.json").read_text())
    answer = {name: np.array([said[name]]) for name in ("weights_version", "table_version")}
    answer["contract"] = np.array([FeatureEncoder.load(copy / "assets.extra").contract.number])
    assert check_versions(copy, answer).ok
    for name in answer:
        check = check_versions(copy, {**answer, name: np.array([1])})
        assert not check.ok
        assert check.detail.startswith(f"the model says {name} 1, the files say ")


def test_a_server_too_old_for_the_graph_is_refused(root):
    saved = saved_of(root / "new")
    versions = saved.meta_graphs[0].graph_def.versions
    assert check_server(saved, "2.20.0").ok
    versions.producer += 1
    saved.meta_graphs[0].meta_info_def.tensorflow_version = "2.21.0"
    assert check_server(saved, "2.20.0").detail.startswith("warning: made by TensorFlow 2.21.0, newer than")
    assert check_server(saved, "2.21.0").detail == "TensorFlow 2.21.0 runs it"
    versions.min_consumer = versions.producer
    check = check_server(saved, "2.20.0")
    assert not check.ok and not check.unchecked
    assert "of graph version 2288, cannot run it: it needs 2289 or later" in check.detail
    assert check_server(saved, "2.21.0").unchecked
    with pytest.raises(ValueError, match="'latest' is no release of TensorFlow"):
        Limits(server_version="latest")


def test_a_client_that_encodes_by_other_vocabularies_is_told(root, tmp_path):
    shutil.copytree(root / "new", tmp_path / "base/7")
    own = FeatureEncoder.load(root / "new/assets.extra")
    swapped = FeatureEncoder(own.schema, {**own.fitted, "age_group": own.fitted["age_group"][::-1]})
    more = {**own.fitted, "age_group": [*own.fitted["age_group"], "new one"]}
    grown = FeatureEncoder(own.schema, more, [own.contract.digest])
    request = one_request(load_probes(root / "new")[0], 0)
    with start_local_server(tmp_path / "base") as server, TwinClient(server.address, timeout_s=PATIENCE_S) as client:
        answer = client.predict(request)
        assert answer.contract.tolist() == [own.contract.number]
        for encoder in (own, grown):
            check_answer(client, answer, encoder.contract)
        with pytest.raises(FailedPreconditionError, match="version 7 of 'twin' was trained with another contract than"):
            check_answer(client, answer, swapped.contract)
        check_answer(client, dataclasses.replace(answer, contract=None), swapped.contract)  # of an earlier model


def test_the_stand_in_refuses_a_version_that_is_not_what_was_exported(copy, tmp_path):
    edited(copy, "schema.yaml", "unit: ms", "unit: s")
    base = tmp_path / "base"
    base.mkdir()
    copy.rename(base / "7")
    manager = VersionManager("twin", base)
    manager.refresh()
    words = "version 7 is not what was exported: assets.extra/schema.yaml has "
    assert manager.failure().message.startswith(words)


def base_with(directory, extra):
    (directory / "7").mkdir(parents=True)
    shutil.copytree(extra, directory / "7/assets.extra")
    return directory


def test_another_contract_does_not_take_the_place_of_the_published_one(root, tmp_path):
    new = root / "new"
    check, alike = check_contract(new, tmp_path / "nothing", allowed=False)
    assert check.ok and alike
    assert check.detail == "no version to compare it with"
    check, alike = check_contract(new, base_with(tmp_path / "same", root / "model/assets.extra"), allowed=False)
    assert check.ok and alike  # one that was exported before there were contracts
    assert check.detail == "that of version 7"
    encoder = FeatureEncoder.load(new / "assets.extra")
    grown = {name: [*values, "new one"] if name == "age_group" else values for name, values in encoder.fitted.items()}
    FeatureEncoder(encoder.schema, grown).save(tmp_path / "grown")
    check, alike = check_contract(new, base_with(tmp_path / "later", tmp_path / "grown"), allowed=False)
    assert check.ok and alike
    assert check.detail == "that of version 7, with values of vocabularies: 1 fewer of age_group"
    swapped = {**encoder.fitted, "age_group": encoder.fitted["age_group"][::-1]}
    FeatureEncoder(encoder.schema, swapped).save(tmp_path / "swapped")
    other = base_with(tmp_path / "other", tmp_path / "swapped")
    check, alike = check_contract(new, other, allowed=False)
    assert not check.ok and not alike
    assert check.detail.startswith("another one than that of version 7: its vocabulary of age_group has ")
    assert "--allow-new-contract lets it pass" in check.detail
    check, alike = check_contract(new, other, allowed=True)
    assert check.ok and not alike
    (other / "7/assets.extra/schema.yaml").unlink()
    check, alike = check_contract(new, other, allowed=False)
    assert check.unchecked and not check.ok


def test_the_server_of_the_gate_is_the_image_of_the_serving_configs():
    for name in ("docker-compose.yaml", "kubernetes/deployment.yaml"):
        text = (Path(__file__).parents[3] / "serving_configs" / name).read_text(encoding="utf-8")
        assert f"image: tensorflow/serving:{SERVER_VERSION}\n" in text
