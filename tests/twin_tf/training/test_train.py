"""Training on real records: what a run leaves behind, that it repeats itself, and how it refuses."""

import dataclasses
import shutil

import numpy as np
import pytest

from tests.twin_tf import small_run
from tests.twin_tf.small_run import read_json, sign_prepared, small_config, with_splits
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.keras_api import tf
from twin_tf.evaluation.evaluate import Evaluator, evaluate_run
from twin_tf.records.format import Manifest
from twin_tf.records.input_pipeline import make_dataset
from twin_tf.records.request_batch import as_served
from twin_tf.runs.run import load_run
from twin_tf.training.train import train_model

pytestmark = pytest.mark.integration


def test_a_run_holds_everything_that_export_needs(run, manifest, prepared):
    report, info = read_json(run / "report.json"), read_json(run / "run.json")
    records = sum(shard.records for shard in manifest.splits["train"])
    assert report["targets"] == manifest.counts.targets["train"] * 2
    assert 2 * records / 4 <= report["steps"] == info["steps"] < 2 * (records / 4 + 10)  # a remainder per length bucket
    assert len(report["valid"]) == len(report["loss"]) == report["epochs"] == 2
    assert report["examples_per_s"] == pytest.approx(report["targets"] / report["train_seconds"])
    assert info["cardinalities"] == dict(manifest.cardinalities)
    assert info["schema_fingerprint"] == manifest.schema_fingerprint
    assert info["weights_version"] > 1_700_000_000
    assert (run / "items/items.parquet").read_bytes() == (prepared / "items/items.parquet").read_bytes()
    for path in (prepared / "vocabularies").iterdir():
        assert (run / "vocabularies" / path.name).read_bytes() == path.read_bytes()
    assert tf.train.latest_checkpoint(str(run / "checkpoints")) == str(run / "checkpoints" / f"ckpt-{report['steps']}")
    assert report["kept"] == {"which": "last", "steps": report["steps"], "valid": report["valid"][-1]}
    (events,) = (run / "tensorboard").iterdir()
    tags = {value.tag for event in tf.compat.v1.train.summary_iterator(str(events)) for value in event.summary.value}
    rates = {"learning_rate/embedding", "learning_rate/dense"}
    valid = {"valid/auc", "valid/gauc", "valid/logloss", "valid/calibration"}
    tables = {f"tables/{name}/{key}" for name, figures in report["tables"].items() for key in figures}
    assert "tables/video/worth" in tables
    attention = {"gsu_overlap@40", "attention_entropy", "attention_entropy_normalised"}
    moved = {f"tables/{name}/moved" for name in report["tables"]}
    assert tags == {"loss", "examples_per_s", "input_bound_share"} | attention | rates | valid | tables | moved
    assert report["gsu_overlap@40"] == [1.0, 1.0]


def test_a_short_run_has_a_curve(run):
    """In report.json, as CSV and in TensorBoard: twenty points and more an epoch, and the last at the last step."""
    report = read_json(run / "report.json")
    curve = report["curve"]
    assert len(curve) >= 20 * report["epochs"]
    assert curve[-1]["steps"] == report["steps"]
    assert curve[-1]["loss"] < curve[0]["loss"]
    assert 0 < curve[0]["moved"]["topic"] < curve[-1]["moved"]["topic"]
    assert len((run / "learning_curve.csv").read_text().splitlines()) >= len(curve) + 1
    (events,) = (run / "tensorboard").iterdir()
    values = [v.tag for event in tf.compat.v1.train.summary_iterator(str(events)) for v in event.summary.value]
    assert values.count("loss") == values.count("tables/topic/moved") >= len(curve)
    assert all(0 < entropy < 1 for entropy in report["attention_entropy_normalised"])
    assert report["longest_history"] <= 300 and report["top_k"] == 40


def test_the_loss_falls(run):
    first, second = read_json(run / "report.json")["loss"]
    assert second < first - 0.03
    assert first < 0.72


def test_a_loaded_run_predicts_what_was_evaluated(run, manifest, prepared):
    loaded = load_run(run)
    assert loaded.config.schema == manifest.schema
    again = Evaluator(loaded.model).run(manifest, "valid", 4)
    report = read_json(run / "report.json")
    assert {"steps": report["steps"], **again.metrics.to_plain()} == report["valid"][-1]
    assert evaluate_run(run, prepared, "valid")["metrics"] == again.metrics.to_plain()


def weights(directory):
    return {variable.name: variable.numpy() for variable in load_run(directory).model.variables}


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(run, prepared, tmp_path):
    train_model(prepared, tmp_path / "again", small_config())
    expected, again = weights(run), weights(tmp_path / "again")
    assert expected.keys() == again.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(again[name], value, err_msg=name)
    train_model(prepared, tmp_path / "other", small_config("training.seed=2", "training.epochs=1"))
    other = weights(tmp_path / "other")
    assert not np.allclose(other["embedding_video:0"], expected["embedding_video:0"])


def test_training_moves_every_weight(run, prepared, tmp_path):
    loaded = load_run(run)
    untrained, _ = small_run.untrained(run)
    for variable, start in zip(loaded.model.trainable_variables, untrained.trainable_variables, strict=True):
        assert variable.name == start.name
        assert not np.array_equal(variable.numpy(), start.numpy()), variable.name


def test_a_loss_that_is_not_finite_ends_the_run_for_good(prepared, tmp_path):
    with pytest.raises(
        FloatingPointError, match=r"^the (loss|gradient) is no longer finite; lower training\.dense_learning_rate"
    ):
        train_model(prepared, tmp_path / "run", small_config("training.embedding_learning_rate=1e30"))
    assert read_json(tmp_path / "run" / "run.json").get("weights_version", 0) == 0
    with pytest.raises(ConfigError, match="has no finished training: train it to the end first"):
        load_run(tmp_path / "run")


def test_a_run_directory_in_use_is_left_alone(prepared, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"^the run directory \S+ exists; name a new one, or remove it first$"):
        train_model(prepared, tmp_path, small_config())
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_search_that_does_not_suit_is_refused_before_a_run_exists(prepared, tmp_path):
    config = small_config("model.search=sim_hard", "model.searches.sim_hard.category=topics")
    with pytest.raises(ConfigError, match="an inherent feature, not 'topics'; did you mean 'topic'?"):
        train_model(prepared, tmp_path / "run", config)
    assert not (tmp_path / "run").exists()


def test_data_of_another_schema_are_refused(prepared, tmp_path):
    config = small_config()
    other = dataclasses.replace(config, schema=dataclasses.replace(config.schema, name="another"))
    with pytest.raises(ConfigError, match="was prepared with another schema than the configuration holds"):
        train_model(prepared, tmp_path / "run", other)
    assert not (tmp_path / "run").exists()


def test_a_configuration_without_schema_takes_the_data_s(prepared, manifest, tmp_path):
    config = dataclasses.replace(small_config("training.epochs=1", "model.search=din"), schema=None)
    report = train_model(prepared, tmp_path / "run", config)
    assert (report["search"], report["schema"]) == ("din", "simulated")
    assert load_run(tmp_path / "run").schema == manifest.schema


def test_unfinished_or_damaged_data_are_refused_before_a_run_exists(prepared, tmp_path):
    copy = shutil.copytree(prepared, tmp_path / "prepared")
    shard = copy / Manifest.load(copy).splits["valid"][0].name
    shard.write_bytes(shard.read_bytes()[:-5])
    with pytest.raises(ConfigError, match=r"has \d+ bytes, manifest.json says \d+; preprocess again"):
        train_model(copy, tmp_path / "run", small_config())
    (copy / "_SUCCESS").unlink()
    with pytest.raises(ConfigError, match="is not finished: it has no _SUCCESS"):
        train_model(copy, tmp_path / "run", small_config())
    assert not (tmp_path / "run").exists()


def test_no_training_records_are_refused_before_a_run_exists(prepared, tmp_path):
    copy = shutil.copytree(prepared, tmp_path / "prepared")
    empty = with_splits(Manifest.load(copy), train=())
    sign_prepared(empty)
    with pytest.raises(ConfigError, match="the train split of .* has no records"):
        train_model(copy, tmp_path / "run", small_config())
    assert not (tmp_path / "run").exists()


def test_labels_of_one_class_train_only_if_told_so_and_without_validation(prepared, tmp_path):
    copy = shutil.copytree(prepared, tmp_path / "prepared")
    manifest = with_splits(Manifest.load(copy), valid=())
    assert 0 < manifest.clicks["train"] < manifest.counts.targets["train"]
    for clicks, words in ((manifest.counts.targets["train"], "is a click"), (0, "is no click")):
        sign_prepared(dataclasses.replace(manifest, clicks={"train": clicks}))
        with pytest.raises(ConfigError, match=f"every target of the train split of .* {words}, and a model learns"):
            train_model(copy, tmp_path / "run", small_config())
        assert not (tmp_path / "run").exists()
    settings = ("training.epochs=1", "model.search=din", "training.allow_one_class=true")
    report = train_model(copy, tmp_path / "run", small_config(*settings))
    assert read_json(tmp_path / "run/run.json")["label_of_all"] == 0
    assert report["valid"] == []
    with pytest.raises(ConfigError, match="the valid split of .* has no records"):
        evaluate_run(tmp_path / "run", copy, "valid")


def test_evaluation_needs_the_schema_of_the_run(run, prepared, tmp_path):
    copy = small_run.of_another_schema(prepared, tmp_path / "prepared")
    with pytest.raises(
        ConfigError, match="was prepared with another contract than the run .*: its name is 'another', not"
    ):
        evaluate_run(run, copy)


def test_a_directory_that_is_no_run_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"is not a run: it has no run.json; run `twin-tf train` first"):
        load_run(tmp_path)


def test_batches_of_training_and_evaluation_meet_the_same_model(run, manifest):
    """The trainer drops what the model does not look back on, evaluation does not: the scores must not notice."""
    loaded = load_run(run)
    batches = Evaluator(loaded.model).scores(manifest, "test", 4)
    whole = np.concatenate([scored.probability for scored in batches])
    parts = []
    for batch in make_dataset(manifest, "test", loaded.model.window, 1):
        parts.append(
            tf.sigmoid(loaded.model(as_served(batch, loaded.schema))).numpy()[0, : int(batch.targets.count[0])]
        )
    np.testing.assert_allclose(np.sort(np.concatenate(parts)), np.sort(whole), atol=3e-6)


def test_a_damaged_run_is_refused_in_one_sentence(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    (data,) = (copy / "checkpoints").glob(f"ckpt-{read_json(run / 'report.json')['steps']}.data-*")
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    with pytest.raises(
        ConfigError, match=r"cannot be used: the checkpoint file \S+ is damaged or missing; train it again$"
    ):
        load_run(copy)


def test_what_a_short_search_finds_is_a_share_of_the_whole_history(tmp_path, prepared, manifest):
    """Batches are cut to what the network sees; the exact top-K may lie beyond."""
    config = small_config("model.search=din", "model.top_k=20", "training.epochs=1")
    (reported,) = train_model(prepared, tmp_path / "run", config)["gsu_overlap@20"]
    model = load_run(tmp_path / "run").model

    def found(window):
        first = make_dataset(manifest, "train", window, 4, shuffle_seed=config.training.seed, epoch=0)
        return float(model.gsu_overlap(next(iter(first))))

    assert reported == pytest.approx(found(config.model.history_length))
    assert reported < found(model.window) - 0.2
