"""`--init-from`: rows go by value with their accumulators, the rest is copied, what does not fit is one sentence."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from export.saved_model.exporter import export_run
from tests.twin_tf import small_run, two_days
from tests.twin_tf.built_once import shared_root
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.keras_api import tf
from twin_tf.features.encoders import FeatureEncoder
from twin_tf.features.schema import load_schema
from twin_tf.records.format import Manifest
from twin_tf.records.input_pipeline import load_item_ids, make_dataset
from twin_tf.records.seen_items import load_seen_items, seen_items
from twin_tf.runs.compatibility import use_catalogue
from twin_tf.runs.run import RunInfo, build_model, load_run
from twin_tf.training.train import train_model
from twin_tf.training.train_step import TrainStep
from twin_tf.training.warm_start import apply_transfer, embedding_tables, plan_transfer

pytestmark = pytest.mark.integration

ROOT = shared_root()
TABLES = {
    "video": "item_embedding/embedding_video",
    "author": "item_embedding/embedding_author",
    "topic": "item_embedding/embedding_topic",
    "age_group": "user_embeddings/age_group/embedding_age_group",
    "device": "user_embeddings/device/embedding_device",
}
OTHER_TABLES = {
    "duration": "item_embedding/embedding_duration",
    "completion": "cross_embedding/embedding_completion",
    "shown_at": "context_embeddings/shown_at/embedding_shown_at",
}


@pytest.fixture(scope="module")
def first_run():
    return two_days.first_run(ROOT)


def read_weights(run, key):
    """A weight and its optimiser's slots as the run's checkpoint holds them."""
    reader = tf.train.load_checkpoint(str(run / "checkpoints"))
    value = ".ATTRIBUTES/VARIABLE_VALUE"
    slots = {"adagrad": "Optimizer0/accumulator", "m": "Optimizer1/m", "v": "Optimizer1/v"}
    keys = {"weight": f"model/{key}/{value}"}
    keys |= {name: f"model/{key}/.OPTIMIZER_SLOT/optimizer/{slot}/{value}" for name, slot in slots.items()}
    return {name: reader.get_tensor(key) for name, key in keys.items() if reader.has_tensor(key)}


def started(run, manifest, *overrides):
    """A model and its optimisers on new data: as they are made, and as the run's weights fill them."""
    config = two_days.config_of(manifest, "training.seed=5", *overrides)
    info = RunInfo(manifest.schema_fingerprint, manifest.cardinalities, manifest.directory)
    plan = plan_transfer(run, manifest, config.model)
    pair = []
    for filled in (False, True):
        model, _ = build_model(Path(manifest.directory), config, info)
        trainer = TrainStep(model, config.training)
        if filled:
            apply_transfer(plan, model, trainer.optimizer)
        pair.append(trainer)
    return plan, *pair


@pytest.mark.parametrize("day", ["grown", "alone"])
def test_rows_go_by_value_and_take_their_accumulators_along(first_run, day):
    manifest = two_days.second_day(ROOT) if day == "grown" else two_days.second_day_alone(ROOT)
    plan, fresh, filled = started(first_run, manifest)
    old, new = FeatureEncoder.load(first_run).fitted, FeatureEncoder.load(manifest.directory).fitted
    assert day == "grown" or old["video"] != new["video"][: len(old["video"])]
    before = {feature.name: table.numpy() for feature, table in embedding_tables(fresh.model)}
    for feature, table in embedding_tables(filled.model):
        if feature.name not in TABLES:
            continue
        name, values = feature.name, table.numpy()
        source = read_weights(first_run, TABLES[name])
        accumulator = filled.optimizer.optimizers[0].get_slot(table, "accumulator").numpy()
        place = {value: row for row, value in enumerate(old[name], 2)}
        for row, value in enumerate([0, 1, *new[name]]):
            there = row if row < 2 else place.get(value)
            wanted = before[name][row] if there is None else source["weight"][there]
            np.testing.assert_array_equal(values[row], wanted, err_msg=f"{name} {value}")
            wanted = 0.1 if there is None else source["adagrad"][there]
            np.testing.assert_array_equal(accumulator[row], np.broadcast_to(np.float32(wanted), accumulator[row].shape))
        kept = len({*old[name]} & {*new[name]}) + 2
        expected = {"kept": kept, "fresh": len(new[name]) + 2 - kept, "dropped": len(old[name]) + 2 - kept}
        assert plan.to_plain().get(name, {"kept": kept, "fresh": 0, "dropped": 0}) == expected
    assert plan.to_plain()["video"]["fresh"] > 10
    assert (plan.to_plain()["video"]["dropped"] > 10) == (day == "alone")


def test_everything_else_is_copied_as_it_is(first_run):
    _, fresh, filled = started(first_run, two_days.second_day(ROOT))
    model, (adagrad, adam) = filled.model, filled.optimizer.optimizers
    tables = {feature.name: table for feature, table in embedding_tables(model)}
    for name, key in OTHER_TABLES.items():
        source = read_weights(first_run, key)
        np.testing.assert_array_equal(tables[name].numpy(), source["weight"])
        np.testing.assert_array_equal(adagrad.get_slot(tables[name], "accumulator").numpy(), source["adagrad"])
        assert source["adagrad"].max() > 0.1
    steps = small_run.read_json(first_run / "run.json")["steps"]
    assert int(adagrad.iterations) == int(adam.iterations) == steps
    loaded = load_run(first_run).model
    for variable, old, untouched in zip(
        model.dense_variables, loaded.dense_variables, fresh.model.dense_variables, strict=True
    ):
        np.testing.assert_array_equal(variable.numpy(), old.numpy(), err_msg=variable.name)
        assert not np.array_equal(variable.numpy(), untouched.numpy()), variable.name
    source = read_weights(first_run, "long_term/relevance/query_kernel")
    for moment in ("m", "v"):
        np.testing.assert_array_equal(
            adam.get_slot(model.long_term.relevance.query_kernel, moment).numpy(), source[moment]
        )
        assert np.abs(source[moment]).max() > 0


def test_no_table_is_forgotten_whatever_the_settings():
    """A table that is none of a feature's would be left out without a word."""
    manifest = two_days.second_day(ROOT)
    info = RunInfo(manifest.schema_fingerprint, manifest.cardinalities, manifest.directory)
    for settings in ((), ("model.decoupled_embeddings=true", "model.consistency=auxiliary")):
        model, _ = build_model(Path(manifest.directory), two_days.config_of(manifest, *settings), info)
        named = list(embedding_tables(model))
        assert {table.ref() for _, table in named} == {table.ref() for table in model.embedding_variables}
        for feature, table in named:
            assert table.shape[0] == manifest.cardinalities[feature.name]


def test_who_was_there_before_is_scored_as_before(first_run):
    first, second = two_days.first_day(ROOT), two_days.second_day(ROOT)
    _, fresh, filled = started(first_run, second)
    loaded = load_run(first_run).model
    use_catalogue(loaded, second)
    for batch in make_dataset(first, "test", loaded.window, 4):
        before = loaded(batch).numpy()
        np.testing.assert_array_equal(filled.model(batch).numpy(), before)
        assert not np.allclose(fresh.model(batch).numpy(), before, atol=0.01)


def test_training_goes_on_from_there_and_can_be_exported(first_run, tmp_path):
    second = two_days.second_day(ROOT)
    config = two_days.config_of(second, "training.seed=5")
    report = train_model(second.directory, tmp_path / "run", config, init_from=first_run)
    assert report["init_from"]["run"] == str(first_run)
    assert report["init_from"]["rows"]["age_group"] == {"kept": 6, "fresh": 1, "dropped": 0}
    now = read_weights(tmp_path / "run", TABLES["video"])["weight"]
    before = read_weights(first_run, TABLES["video"])["weight"]
    features = load_run(tmp_path / "run").model.item_embedding.item_features.numpy()
    idle = np.setdiff1d(np.arange(2, len(before)), features[seen_items(second), 0])
    busy = np.intersect1d(np.arange(2, len(before)), features[seen_items(second), 0])
    assert min(len(idle), len(busy)) > 20
    np.testing.assert_array_equal(now[idle], before[idle])  # nobody has met them since
    assert (now[busy] != before[busy]).any(axis=1).mean() > 0.9
    ids, known = load_item_ids(tmp_path / "run"), load_seen_items(tmp_path / "run")
    assert set(ids[known]) == set(ids[seen_items(second)]) | set(load_item_ids(first_run)[load_seen_items(first_run)])
    assert export_run(tmp_path / "run", tmp_path / "model")["items"] == second.counts.items


def test_settings_that_make_other_weights_are_named_before_a_run_exists(first_run, tmp_path):
    second = two_days.second_day(ROOT)
    for override, setting in (
        ("model.heads=2", "model.heads is 2, but 4 in the run"),
        ("model.head_size=4", "model.head_size is 4, but 8 in the run"),
        ("model.mixer=[16,8]", r"model.mixer is \(16, 8\), but \(16,\) in the run"),
        ("model.relevance_statistics=false", "model.relevance_statistics is False, but True in the run"),
        ("model.short_term_length=0", "model.short_term_length is 0, but 10 in the run"),
        ("model.search=mimn", "model.search is mimn, but twin in the run"),
    ):
        with pytest.raises(ConfigError, match=f"{setting} .*; let both be the same, or train without --init-from"):
            train_model(second.directory, tmp_path / "run", two_days.config_of(second, override), init_from=first_run)
    assert not (tmp_path / "run").exists()


def test_settings_that_make_the_same_weights_may_differ(first_run):
    second = two_days.second_day(ROOT)
    own = ("model.searches.sim_hard.category=topic", "model.searches.eta.bits=9")
    others = ("model.search=sim_hard", *own, "model.cluster_size_bias=search")
    _, _, filled = started(first_run, second, *others, "model.history_length=50", "model.top_k=5")
    kernel = load_run(first_run).model.long_term.relevance.query_kernel.numpy()
    np.testing.assert_array_equal(filled.model.long_term.relevance.query_kernel.numpy(), kernel)


def of_another_feature(manifest, copy, name, /, **changes):
    """Prepared data with one feature changed in the schema alone."""
    shutil.copytree(manifest.directory, copy)
    plain = manifest.schema.to_plain()
    for feature in plain["features"]:
        if feature["name"] == name:
            feature |= changes
    (copy / "schema.yaml").write_text(yaml.safe_dump(plain), encoding="utf-8")
    (copy / "contract.json").unlink()  # it would say that the schema was edited
    fingerprint = load_schema(copy / "schema.yaml").fingerprint
    small_run.sign_prepared(dataclasses.replace(manifest, directory=str(copy), schema_fingerprint=fingerprint))
    return Manifest.load(copy)


def test_features_that_mean_something_else_are_named(first_run, tmp_path):
    second = two_days.second_day(ROOT)
    numeric = {"kind": "numeric", "boundaries": [1.0, 2.0]}
    for number, (name, changes, message) in enumerate(
        (
            ("page_position", {"encoding": {"kind": "identity", "size": 12}}, "has size 12, but 9 in the run"),
            ("play_time", {"encoding": numeric}, r"has boundaries \[1.0, 2.0\], but \[1.0, 2.0, 4.0, .*\] in the run"),
            ("device", {"encoding": {"kind": "hash", "buckets": 7}}, "has kind hash, but vocabulary in the run"),
            ("author", {"dim": 4}, "has dim 4, but 16 in the run"),
        )
    ):
        manifest = of_another_feature(second, tmp_path / str(number), name, **changes)
        with pytest.raises(ConfigError, match=f"^feature '{name}' {message}"):
            plan_transfer(first_run, manifest, two_days.config_of(second).model)
    manifest = of_another_feature(second, tmp_path / "name", "device", name="gadget", column="device")
    shutil.copyfile(tmp_path / "name/vocabularies/device.json", tmp_path / "name/vocabularies/gadget.json")
    with pytest.raises(ConfigError, match="differ in the features device, gadget or their order"):
        plan_transfer(first_run, manifest, two_days.config_of(second).model)


def test_another_time_unit_is_refused(first_run, tmp_path):
    second = two_days.second_day(ROOT)
    copy = shutil.copytree(second.directory, tmp_path / "copy")
    plain = second.schema.to_plain()
    plain["events"]["time"]["unit"] = "s"
    (copy / "schema.yaml").write_text(yaml.safe_dump(plain), encoding="utf-8")
    fingerprint = load_schema(copy / "schema.yaml").fingerprint
    small_run.sign_prepared(dataclasses.replace(second, directory=str(copy), schema_fingerprint=fingerprint))
    with pytest.raises(
        ConfigError, match=r"^events\.time has another unit, utc_offset_hours or timezone than in the run"
    ):
        plan_transfer(first_run, Manifest.load(copy), two_days.config_of(second).model)


def test_a_run_that_has_not_ended_is_no_start(first_run, tmp_path):
    second = two_days.second_day(ROOT)
    model = two_days.config_of(second).model
    with pytest.raises(ConfigError, match=r"is not a run: it has no run\.json"):
        plan_transfer(tmp_path, second, model)
    copy = shutil.copytree(first_run, tmp_path / "run")
    info = small_run.read_json(copy / "run.json")
    (copy / "run.json").write_text(json.dumps({**info, "weights_version": 0}))
    with pytest.raises(ConfigError, match="has no finished training: train it to the end first"):
        plan_transfer(copy, second, model)


def test_a_cached_table_starts_from_the_weights_that_were_taken_over(first_run, tmp_path):
    """The first measurement comes before the first step: with the random start's table it would be low."""
    second = two_days.second_day(ROOT)
    config = two_days.config_of(second)
    cached = dataclasses.replace(config.training, projections="cached", refresh_steps=10**6, epochs=1)
    train_model(second.directory, tmp_path / "run", dataclasses.replace(config, training=cached), init_from=first_run)
    (events,) = (tmp_path / "run" / "tensorboard").iterdir()
    found = [
        tf.make_ndarray(value.tensor)
        for event in tf.compat.v1.train.summary_iterator(str(events))
        for value in event.summary.value
        if value.tag.startswith("gsu_overlap@")
    ]
    assert found[0] == 1.0 > found[-1]
