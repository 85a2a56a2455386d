"""A run in a bucket: trained, stopped, resumed elsewhere, evaluated and exported, with the bits of a local one."""

import json

import pytest

from beam_pipelines.project_items import project_items
from export.contract.file_manifest import fault
from export.saved_model.exporter import export_run
from tests.twin_tf.fake_bucket import FakeBucket, registered
from tests.twin_tf.small_run import small_config
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.mirrors import at_hand
from twin_tf.evaluation.evaluate import evaluate_run
from twin_tf.evaluation.evaluation_page import write_evaluation_page
from twin_tf.runs.bucket_run import LOCK, run_to_train
from twin_tf.runs.projections import load_projections
from twin_tf.runs.run import load_run
from twin_tf.training.run_page import write_run_page
from twin_tf.training.train import train_model

pytestmark = pytest.mark.integration

URL, DATA = "fake://shop/runs/one", "fake://shop/prepared"


@pytest.fixture
def bucket(prepared):
    with registered("fake", FakeBucket()) as made:
        made.put(prepared, DATA)
        made.lists_late = True
        yield made


class GoneError(Exception):
    """The machine is gone."""


@pytest.mark.slow
def test_a_run_in_a_bucket_is_what_a_local_one_is(bucket, prepared, tmp_path, monkeypatch, capsys):
    config = small_config("training.epochs=1", "training.batch_records=8", "training.checkpoint_steps=5")
    local = train_model(prepared, tmp_path / "one", config)

    def gone(kind, path):
        if path.endswith("ckpt-10.json"):
            raise GoneError
        bucket.log.append((kind, path))

    with monkeypatch.context() as stopped, pytest.raises(GoneError):
        stopped.setattr(bucket, "_did", gone)
        train_model(DATA, URL, config)
    assert "shop/runs/one/checkpoints/ckpt-5.json" in bucket.objects
    with pytest.raises(ConfigError, match="has no finished training: train it to the end first"):
        load_run(URL)
    begun = [path for path in bucket.done("write") if path.endswith("ckpt-5.index")]
    report = train_model(DATA, URL, config)
    assert begun == [path for path in bucket.done("write") if path.endswith("ckpt-5.index")], "it went on from there"
    assert report["loss"] == local["loss"] and report["valid"] == local["valid"]
    assert f"warning: {URL} lies in a bucket, where no lock keeps a second training out" in capsys.readouterr().err

    there = load_run(URL)
    assert there.info.prepared == DATA
    for mine, theirs in zip(there.model.weights, load_run(tmp_path / "one").model.weights, strict=True):
        assert (mine.numpy() == theirs.numpy()).all()
    with pytest.raises(ConfigError, match="its training is finished"):
        train_model(DATA, URL, config)

    assert str(write_run_page(URL)) == f"{URL}/report.md"
    found = evaluate_run(URL, DATA, "valid", yardsticks=False, users=0)
    assert found["metrics"] == evaluate_run(tmp_path / "one", prepared, "valid", yardsticks=False, users=0)["metrics"]
    assert str(write_evaluation_page(URL, "valid")) == f"{URL}/evaluation-valid.md"
    written = json.loads(bucket.objects["shop/runs/one/evaluation-valid.json"])
    assert written["metrics"] == found["metrics"]
    assert b"evaluation-valid.md" in bucket.objects["shop/runs/one/report.md"]

    bucket.log.clear()
    export_run(URL, "fake://shop/model")
    assert bucket.done("write")[-1] == "shop/model/saved_model.pb"
    assert fault(at_hand("fake://shop/model")) == ""
    with pytest.raises(ConfigError, match="^fake://shop/model exists and is not empty"):
        export_run(URL, "fake://shop/model")


def test_the_training_that_begins_last_goes_on(bucket):
    said = f"^another process has begun to train into {URL}, so this one stops"
    with pytest.raises(ConfigError, match=said), run_to_train(URL) as (directory, send):
        send()
        send()
        (directory / "a").touch()
        with run_to_train(URL) as (_, other):
            other()
        send()
    assert not [path for path in bucket.objects if path.startswith("shop/runs/one/") and not path.endswith(LOCK)]
    with pytest.raises(ConfigError, match=said), run_to_train(URL) as (_, send):
        send()
        bucket.objects[f"shop/runs/one/{LOCK}"] = b"nobody's"


def test_a_run_that_was_copied_to_a_bucket_is_loaded_and_its_page_written(bucket, run):
    bucket.put(run, "fake://shop/copied")
    before = set(bucket.objects)
    there = load_run("fake://shop/copied")
    assert there.directory.name == "copied" and there.info == load_run(run).info
    assert str(write_run_page("fake://shop/copied")) == "fake://shop/copied/report.md"
    assert {"shop/copied/report.md", "shop/copied/.files.json"} <= set(bucket.objects)
    assert before <= set(bucket.objects)
    assert load_run("fake://shop/copied").info == there.info, "its index names what was there before it had one"
    del bucket.objects["shop/copied/items/items.parquet"]
    with pytest.raises(OSError, match="^fake://shop/copied is not whole, or is being written"):
        load_run("fake://shop/copied")


def test_a_directory_of_a_bucket_that_is_taken_is_refused_before_any_work(bucket):
    bucket.objects["shop/model/a"] = b""
    with pytest.raises(ConfigError, match="^fake://shop/model exists and is not empty; name a new directory"):
        export_run("no such run", "fake://shop/model")


@pytest.mark.slow
def test_jobs_of_beam_take_a_run_of_a_bucket(bucket, prepared, run, tmp_path):
    bucket.put(run, "fake://shop/copied")
    for name, place in (("one", run), ("other", "fake://shop/copied")):
        project_items(place, tmp_path / name)
    files = [sorted(p for p in (tmp_path / name).rglob("*") if p.is_file()) for name in ("one", "other")]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]
    bucket.put(tmp_path / "other", "fake://shop/projections")
    bucket.settle()
    loaded = load_run(run)
    assert (load_projections("fake://shop/projections", loaded) == load_projections(tmp_path / "one", loaded)).all()
    bucket.put(prepared, "fake://shop/later")
    assert project_items(run, tmp_path / "later", "fake://shop/later") == tmp_path / "later"
