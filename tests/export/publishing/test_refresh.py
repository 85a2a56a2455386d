"""New weights and new items under the graph that is served: the answers of a fresh export, without a new graph."""

import dataclasses
import hashlib
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from beam_pipelines.project_items import main as project_command
from beam_pipelines.project_items import project_items
from export.contract.file_manifest import fault, write_manifest
from export.contract.probe_file import load_probe_file
from export.contract.version_layout import LOCK, version_numbers
from export.gate.limits import Limits
from export.gate.provenance import check_content
from export.publishing.publisher import PublishError, roll_back
from export.publishing.refresh import refresh
from export.publishing.version_store import whole_versions
from export.session.child_process import child_environment
from tests.export.publishing.two_day_models import two_models
from tests.twin_tf import small_run
from tests.twin_tf.built_once import shared_root
from tests.twin_tf.fake_bucket import FakeBucket, registered
from twin_tf.cli.main import main
from twin_tf.config import load_config
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.mirrors import at_hand
from twin_tf.features.encoders import FeatureEncoder
from twin_tf.records.format import MANIFEST, SUCCESS
from twin_tf.records.input_pipeline import load_item_ids
from twin_tf.renamed_settings import put
from twin_tf.runs.projections import load_projections, run_with_catalogue

pytestmark = pytest.mark.integration

FEW_TARGETS = Limits(auc_epsilon=0.5)
"""Of two days' models on 30 targets, either may be the better one."""


@pytest.fixture(scope="module")
def days():
    """Runs of two days, the second day's data and both exported models."""
    root = shared_root()
    two_models(root)
    return root / "days"


@pytest.fixture(scope="module")
def projections(days, tmp_path_factory):
    """The pool of the second run, projected by the pipeline."""
    output = tmp_path_factory.mktemp("pool") / "projections"
    assert project_command([f"--run={days / 'run-2'}", f"--output={output}"]) == 0
    return output


@pytest.fixture(scope="module")
def refreshed(days, projections, tmp_path_factory):
    """A base path with the first model, then new items for it, then new weights; and what each refresh said."""
    base = tmp_path_factory.mktemp("refreshed")
    shutil.copytree(days / "model-1", base / "1")
    items = refresh(base, days / "run-1", prepared=days / "prepared-2", limits=FEW_TARGETS)
    weights = refresh(base, days / "run-2", projections=projections, limits=FEW_TARGETS)
    return base, items, weights


def in_cpp(directory, calls):
    """What the C++ runtime answers to (model, signature, inputs) each."""
    names = [f"call{place}" for place in range(len(calls))]
    for name, (_, _, inputs) in zip(names, calls, strict=True):
        np.savez(directory / f"{name}.npz", **inputs)
    listed = [(str(model), signature, name) for name, (model, signature, _) in zip(names, calls, strict=True)]
    (directory / "calls.json").write_text(json.dumps(listed))
    script = Path(__file__).parents[1] / "cpp_process.py"
    subprocess.run([sys.executable, str(script), str(directory)], check=True, env=child_environment())
    answers = []
    for name in names:
        with np.load(directory / f"{name}.out.npz") as file:
            answers.append(dict(file))
    return answers


def new_items(days):
    return np.setdiff1d(load_item_ids(days / "prepared-2"), load_item_ids(days / "run-1"))


def test_new_weights_answer_like_a_fresh_export_of_their_run(days, refreshed, tmp_path):
    base, _, said = refreshed
    version = base / str(said["version"])
    requests = dict(load_probe_file(days / "model-2").inputs)
    known = {"item": load_item_ids(days / "run-2")[None, 2:]}
    calls = [("serving_default", requests), ("retrieve", requests), ("item_projection", known)]
    models = (version, days / "model-2", days / "model-1")
    answers = in_cpp(tmp_path, [(model, name, inputs) for name, inputs in calls for model in models])
    for ours, fresh, before in zip(answers[::3], answers[1::3], answers[2::3], strict=True):
        for name in set(fresh) - {"table_version"}:
            np.testing.assert_allclose(ours[name], fresh[name], atol=1e-6, err_msg=name)
        assert (ours["table_version"] == said["table_version"]).all()
        assert (before["weights_version"] < ours["weights_version"]).all()
    assert np.abs(answers[0]["probability"] - answers[2]["probability"]).max() > 0.01
    assert answers[6]["found"].all()
    assert answers[8]["found"].sum() == len(load_item_ids(days / "run-1")) - 2


def test_nothing_of_the_graph_is_written_anew(days, refreshed):
    base, items, weights = refreshed
    graph = (days / "model-1/saved_model.pb").read_bytes()
    for said in (items, weights):
        version = base / str(said["version"])
        assert (version / "saved_model.pb").read_bytes() == graph
        assert not (version / "fingerprint.pb").exists()
        assert fault(version) == ""
        assert check_content(version).ok, check_content(version).detail
        assert set(said["seconds"]) == {"load", "project", "write", "probes", "publish"}
    assert version_numbers(base) == [1, items["version"], weights["version"]]


def test_a_version_knows_the_contracts_that_it_grew_from(days, refreshed, tmp_path):
    base, _, weights = refreshed
    version = base / str(weights["version"])
    before, now = (FeatureEncoder.load(model / "assets.extra").contract for model in (days / "model-1", version))
    assert before.digest != now.digest  # the second day's vocabularies grew
    assert before.digest in now.earlier
    (said,) = in_cpp(tmp_path, [(version, "self_check", {"probe": np.zeros(2, np.int32)})])
    assert said["contract"].tolist() == [now.number] * 2
    assert {before.number, now.number} <= set(said["understood"][1].tolist())


def test_new_items_become_known_to_the_same_weights(days, refreshed, tmp_path):
    base, said, _ = refreshed
    version, fresh = base / str(said["version"]), new_items(days)
    assert said["new_items"] == len(fresh) > 50
    run = run_with_catalogue(days / "run-1", days / "prepared-2")
    assert said["weights_version"] == run.info.weights_version
    probes = load_probe_file(version)
    calls = [(model, "item_projection", {"item": fresh[None]}) for model in (version, base / "1")]
    calls += [(model, "serving_default", dict(probes.inputs)) for model in (version, base / "1")]
    answer, before, scored, unknowing = in_cpp(tmp_path, calls)
    assert answer["found"].all()
    assert not before["found"].any()
    rows = np.flatnonzero(np.isin(run.item_ids, fresh))
    expected = run.model.project_items(rows).numpy()[np.argsort(run.item_ids[rows])]
    np.testing.assert_allclose(answer["projection"][0], expected, atol=1e-6)
    assert np.ptp(expected, axis=0).max() > 0.01  # a new video of a known author is more than unknown
    assert scored["unknown_items"].sum() < unknowing["unknown_items"].sum()
    np.testing.assert_allclose(scored["probability"], probes.expected["probability"], atol=1e-5)


def test_a_refresh_without_prepared_data_asks_the_same_probes_again(refreshed):
    base, items, weights = refreshed
    before, after = (load_probe_file(base / str(said["version"])) for said in (items, weights))
    for name, value in before.inputs.items():
        np.testing.assert_array_equal(after.inputs[name], value)
    np.testing.assert_array_equal(after.expected["label"], before.expected["label"])
    assert after.expected["position"].shape == (*after.real.shape, 40)
    assert np.abs(after.expected["probability"] - before.expected["probability"]).max() > 0.01
    description = json.loads((base / str(weights["version"]) / "assets.extra/export.json").read_text())
    assert description["weights_version"] == weights["weights_version"]
    assert description["table_version"] == weights["table_version"]
    assert description["items"] == weights["items"]


def test_the_pipeline_projects_what_the_model_says_in_the_same_bytes_each_time(days, projections, tmp_path):
    run = run_with_catalogue(days / "run-2", None)
    np.testing.assert_array_equal(load_projections(projections, run), run.model.projection_table().numpy())
    again = project_items(days / "run-2", tmp_path / "again", workers=2)
    files = sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert [str(path) for path in files] == [SUCCESS, MANIFEST, "projections/000000000000.npy"]
    for path in files:
        assert (again / path).read_bytes() == (projections / path).read_bytes()
    later = project_items(days / "run-1", tmp_path / "later", days / "prepared-2")
    grown = run_with_catalogue(days / "run-1", days / "prepared-2")
    assert load_projections(later, grown).shape == (len(load_item_ids(days / "prepared-2")), 32)


def tampered(projections, copy, change):
    """Projections whose checksums are right and whose numbers are not, as a faulty worker would write them."""
    shutil.copytree(projections, copy)
    path = copy / "projections/000000000000.npy"
    buffer = io.BytesIO()
    np.save(buffer, change(np.load(path)))
    path.write_bytes(buffer.getvalue())
    plain = json.loads((copy / MANIFEST).read_text())
    plain["shards"][0]["sha256"] = hashlib.sha256(buffer.getvalue()).hexdigest()
    (copy / MANIFEST).write_text(json.dumps(plain))
    return copy


def test_a_table_that_is_not_of_these_weights_is_refused_by_the_self_check(days, projections, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(days / "model-1", base / "1")

    def change(table):
        table[7, 3] += 0.01
        return table

    wrong = tampered(projections, tmp_path / "wrong", change)
    with pytest.raises(PublishError) as refused:
        refresh(base, days / "run-2", projections=wrong)
    words = "self_check: the projection table disagrees with the weights of this version"
    assert f"the refresh of {base / '1'} is not published: self_check: " in str(refused.value)
    assert words in str(refused.value)
    assert [path.name for path in sorted(base.iterdir())] == [".publish.lock", "1"]


def with_setting(run, copy, key, value):
    """A copy of a run that says it was trained with another setting."""
    shutil.copytree(run, copy)
    plain = yaml.safe_load((copy / "config.yaml").read_text())
    put(plain, key, value)
    (copy / "config.yaml").write_text(yaml.safe_dump(plain))
    small_run.sign_run(copy)
    return copy


def test_what_cannot_refresh_a_version_is_refused_in_one_sentence(days, tmp_path):
    base = tmp_path / "base"
    with pytest.raises(PublishError, match="holds no version to refresh; export one and publish it first"):
        refresh(base, days / "run-1")
    shutil.copytree(days / "model-2", base / "1")
    run = days / "run-2"
    fewer = with_setting(run, tmp_path / "fewer", "model.top_k", 30)
    with pytest.raises(ConfigError, match=r"model\.top_k is 30 in the run \S+, but 40 in .*: its graph is another"):
        refresh(base, fewer)
    assert with_setting(run, tmp_path / "began", "model.embedding_scale", 1.0)  # says how training began, no more
    other = with_setting(run, tmp_path / "other", "schema.name", "another")
    with pytest.raises(ConfigError, match=r"config\.yaml was changed after the run was trained: its name is 'another'"):
        refresh(base, other)
    renamed = shutil.copytree(run, tmp_path / "renamed")
    devices = json.loads((renamed / "vocabularies/device.json").read_text())
    (renamed / "vocabularies/device.json").write_text(json.dumps(reversed_values(devices)))
    small_run.sign_run(renamed)
    with pytest.raises(ConfigError, match=r"vocabularies/device\.json was changed after it was made"):
        refresh(base, renamed)
    (renamed / "contract.json").unlink()  # a run of other data, as it were
    small_run.sign_run(renamed)
    with pytest.raises(ConfigError, match=r"its vocabulary of device has '.+' in row 2, not '.+'; clients encode by"):
        refresh(base, renamed)
    with pytest.raises(ConfigError, match=r"the catalogue lacks [\d,]+ items that \S+ serves, for example \d+; give"):
        refresh(base, days / "run-1")
    (base / "1/assets.extra/export.json").unlink()
    with pytest.raises(ConfigError, match=r"is no exported model: assets\.extra/export\.json is missing"):
        refresh(base, run, model=base / "1")
    with pytest.raises(PublishError, match="holds no version to refresh; export one and publish it first"):
        refresh(base, run)
    assert version_numbers(base) == [1]
    assert [path.name for path in base.iterdir() if path.name not in ("1", ".publish.lock")] == []


def test_hyperplanes_of_another_seed_are_another_graph(days, tmp_path):
    base, seed = tmp_path / "base", load_config(days / "run-2" / "config.yaml").training.seed
    shutil.copytree(days / "model-2", base / "1")
    path = base / "1/assets.extra/export.json"
    description = json.loads(path.read_text())
    assert description["seed"] == seed
    description["model"]["search"] = "eta"
    path.write_text(json.dumps(description))
    write_manifest(base / "1")
    other = with_setting(days / "run-2", tmp_path / "hashed", "model.search", "eta")
    again = with_setting(other, tmp_path / "again", "training.seed", seed + 1)
    with pytest.raises(ConfigError, match=rf"seed is {seed + 1} in the run \S+, but {seed} in .* hyperplanes"):
        refresh(base, again)


def reversed_values(content):
    if isinstance(content, list):
        return content[::-1]
    return {key: value[::-1] if isinstance(value, list) else value for key, value in content.items()}


def test_projections_of_other_weights_or_of_another_catalogue_are_refused(days, projections, tmp_path):
    first, second = (run_with_catalogue(days / f"run-{number}", None) for number in (1, 2))
    with pytest.raises(ConfigError, match=r"was projected with weights of version \d+, but \S+ has \d+; project again"):
        load_projections(projections, first)
    fewer = dataclasses.replace(second, item_ids=second.item_ids[:-1])
    with pytest.raises(ConfigError, match="was projected from another catalogue than the one to be served"):
        load_projections(projections, fewer)
    damaged = shutil.copytree(projections, tmp_path / "damaged")
    with (damaged / "projections/000000000000.npy").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ConfigError, match=r"000000000000\.npy is damaged: its SHA-256 is another; project again"):
        load_projections(damaged, second)
    (damaged / SUCCESS).unlink()
    with pytest.raises(ConfigError, match="holds no finished projections"):
        load_projections(damaged, second)


@pytest.mark.slow
def test_a_refresh_killed_in_the_middle_leaves_the_base_path_as_it_was(days, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(days / "model-1", base / "1")
    command = [
        sys.executable,
        "-m",
        "twin_tf.cli",
        "refresh",
        "--base-path",
        str(base),
        "--run",
        str(days / "run-2"),
    ]
    command += ["--auc-epsilon", str(FEW_TARGETS.auc_epsilon)]
    for wait in (0.0, 0.5, 2.0, 6.0):  # while it writes the variables, asks the probes, waits for the gate
        killed = subprocess.Popen(command, env=child_environment(), stderr=subprocess.DEVNULL)
        while not list(base.glob(".incoming-*")):
            assert killed.poll() is None
        time.sleep(wait)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert whole_versions(base) == version_numbers(base)
        assert version_numbers(base)[0] == 1
        assert small_run.read_json(base / "1/assets.extra/export.json")["run"] == "run-1"
    done = subprocess.run([*command, "--json"], env=child_environment(), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["items"] == 800
    assert [path.name for path in base.iterdir() if path.name.startswith(".incoming")] == []


def test_a_refresh_does_not_undo_a_rollback(days, tmp_path, monkeypatch):
    base = tmp_path / "base"
    for number in (1, 2):
        shutil.copytree(days / f"model-{number}", base / str(number))
    original = run_with_catalogue

    def with_a_rollback_meanwhile(*arguments, **options):
        roll_back(base)
        return original(*arguments, **options)

    said = rf"^the run {days / 'run-2'} was rolled back with version 2 of {base}; refresh from a newer run, or with "
    with monkeypatch.context() as patched:
        patched.setattr("export.publishing.refresh.run_with_catalogue", with_a_rollback_meanwhile)
        with pytest.raises(PublishError, match=said):
            refresh(base, days / "run-2", model=days / "model-1", limits=FEW_TARGETS)
    assert version_numbers(base) == [1]
    done = CliRunner().invoke(main, ["refresh", "--base-path", str(base), "--run", str(days / "run-2")])
    assert (done.exit_code, len(done.stderr.splitlines())) == (1, 1)
    assert "was rolled back with version 2" in done.stderr


@pytest.mark.slow
def test_a_rolled_back_run_is_refreshed_from_where_that_is_allowed(days, tmp_path):
    base = tmp_path / "base"
    for number in (1, 2):
        shutil.copytree(days / f"model-{number}", base / str(number))
    roll_back(base)
    refresh(base, days / "run-2", limits=FEW_TARGETS, allow_rolled_back=True)
    refresh(base, days / "run-2", limits=FEW_TARGETS)
    assert len(version_numbers(base)) == 3


def test_a_version_with_a_flipped_byte_is_not_refreshed(days, tmp_path):
    version = shutil.copytree(days / "model-1", tmp_path / "base/1")
    write_manifest(version)
    path = version / "assets.extra/schema.yaml"
    path.write_bytes(path.read_bytes()[:-1] + b" ")
    with pytest.raises(ConfigError, match=r"assets\.extra/schema\.yaml is damaged: its SHA-256 is another$"):
        refresh(tmp_path / "base", days / "run-1", model=version)
    with pytest.raises(PublishError, match=r"first \(version 1 is passed over: assets\.extra/schema\.yaml is damaged"):
        refresh(tmp_path / "base", days / "run-1")


@pytest.mark.slow
def test_a_base_path_a_run_and_data_in_a_bucket(days):
    base, run = "fake://shop/twin", "fake://shop/run-1"
    with registered("fake", FakeBucket()) as bucket:
        for name, place in (("model-1", f"{base}/1"), ("run-1", run), ("prepared-2", "fake://shop/prepared-2")):
            bucket.put(days / name, place)
        said = refresh(base, run, prepared="fake://shop/prepared-2", limits=FEW_TARGETS)
        assert (said["path"], said["refreshed"]) == (f"{base}/{said['version']}", f"{base}/1")
        assert said["new_items"] == len(new_items(days))
        version = at_hand(said["path"])
        assert fault(version) == "" and check_content(version).ok
        assert json.loads((version / "assets.extra/export.json").read_text())["run"] == "run-1"
        assert bucket.done("copy")[-1] == f"shop/twin/{said['version']}/saved_model.pb"
        assert str(roll_back(base)) == f"{base}/1"
        with pytest.raises(
            PublishError, match=f"^the run {run} was rolled back with version {said['version']} of {base}"
        ):
            refresh(base, run)
        assert f"shop/twin/{LOCK}" not in bucket.objects
