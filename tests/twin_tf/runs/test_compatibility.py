"""A run meets the data of another day: what it knows keeps its meaning, the rest is unknown, or refused."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from export.saved_model.exporter import export_run
from export.session.child_process import child_environment
from tests.patience import PATIENCE_S
from tests.twin_tf import small_run, two_days
from tests.twin_tf.built_once import shared_root
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.evaluation.evaluate import evaluate_run
from twin_tf.features.encoders import FeatureEncoder
from twin_tf.records.format import Manifest
from twin_tf.records.input_pipeline import load_item_features, load_item_ids
from twin_tf.records.seen_items import load_seen_items
from twin_tf.runs.compatibility import check_same_encoding, use_catalogue
from twin_tf.runs.projections import run_with_catalogue
from twin_tf.runs.run import RunInfo, build_model, load_run

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def first():
    return two_days.first_day(shared_root())


@pytest.fixture(scope="module")
def second():
    return two_days.second_day(shared_root())


@pytest.fixture(scope="module")
def first_run():
    return two_days.first_run(shared_root())


def test_a_later_day_s_targets_are_all_scored_and_new_items_are_told_apart(first_run, first, second, tmp_path):
    run = shutil.copytree(first_run, tmp_path / "run")
    result = evaluate_run(run, second.directory)
    assert result["metrics"]["targets"] == second.counts.targets["test"]
    seen = set(load_item_ids(run)[load_seen_items(run)])
    ids = load_item_ids(second.directory)
    targets = [ids[row] for record in small_run.decode(second, "test") for row in record["target/item"]]
    known = sum(item in seen for item in targets)
    assert 0 < known < len(targets)
    assert [(row["items"], row["targets"]) for row in result["by_item"]] == [
        ("known", known),
        ("new", len(targets) - known),
    ]
    assert seen <= set(load_item_ids(first.directory))


def test_a_new_video_of_a_known_author_is_more_than_unknown(first_run, first, second):
    model = load_run(first_run).model
    features, _ = load_item_features(second.directory, second.schema)
    video, author, topic, category, duration = features.T[:5]
    tables = [table.numpy() for table in model.item_embedding.tables]
    new = np.arange(first.counts.items + 2, second.counts.items + 2)
    familiar = new[(video[new] >= len(tables[0])) & (author[new] > 1) & (author[new] < len(tables[1]))]
    strange = new[author[new] >= len(tables[1])]
    assert len(familiar) > 10
    assert len(strange) > 10

    def embedding(row):
        return model.item_embedding(np.array([row], np.int32)).numpy()[0]

    np.testing.assert_array_equal(embedding(familiar[0]), embedding(1))  # to the run's own catalogue it is unknown
    use_catalogue(model, second)
    for row in (familiar[0], strange[0]):
        who = author[row] if row == familiar[0] else 1
        known = (topic[row], category[row], duration[row])
        wanted = [tables[0][1], tables[1][who], *(t[i] for t, i in zip(tables[2:], known, strict=True))]
        np.testing.assert_array_equal(embedding(row), np.concatenate(wanted))
    assert len(model.item_embedding.non_trainable_weights) == 1  # the run's own catalogue is gone


def test_every_part_of_a_model_gets_the_catalogue(first, second):
    settings = ("model.decoupled_embeddings=true", "model.consistency=auxiliary")
    info = RunInfo(first.schema_fingerprint, first.cardinalities, first.directory)
    model, _ = build_model(Path(first.directory), two_days.config_of(first, *settings), info)
    use_catalogue(model, second)
    features, _ = load_item_features(second.directory, second.schema)
    for part in (model, model.auxiliary):
        for layer in (part.item_embedding, part.relevance_embedding):
            np.testing.assert_array_equal(layer.item_features.numpy(), features)


def test_the_run_s_own_day_scores_as_ever(first_run, first, tmp_path):
    """Looking items up in the catalogue of the data changes nothing where it is the run's own."""
    copy = shutil.copytree(first_run, tmp_path / "run")
    result = evaluate_run(copy, first.directory, "valid")
    expected = small_run.read_json(first_run / "report.json")["valid"][-1]
    assert result["metrics"] == {name: expected[name] for name in result["metrics"]}


def test_an_export_with_a_later_day_s_probes_serves_what_the_run_says(first_run, second, tmp_path):
    description = export_run(first_run, tmp_path / "model", second.directory)
    assert description["items"] == len(load_item_ids(first_run)) - 2 < len(load_item_ids(second.directory))
    probes = np.load(tmp_path / "model/assets.extra/probes.npz")
    asked = probes["input/candidate_item"]
    real = np.arange(asked.shape[1])[None, :] < probes["input/candidate_count"][:, None]
    assert not np.isin(asked[real], load_item_ids(first_run)).all()
    assert np.isin(asked[real], load_item_ids(second.directory)).all()
    command = [sys.executable, "-m", "export.gate.validate", str(tmp_path / "model")]
    done = subprocess.run(
        command, capture_output=True, text=True, env=child_environment(), timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_earlier_day_of_the_chain_goes_with_a_later_run(first, second, tmp_path):
    """The later run is only a directory here: what is compared are its files."""
    shutil.copytree(second.directory, tmp_path / "run")
    two_days.config_of(second).save(tmp_path / "run/config.yaml")
    check_same_encoding(tmp_path / "run", first)
    check_same_encoding(tmp_path / "run", second)


def test_data_that_did_not_grow_from_the_run_s_are_refused(first_run, second, tmp_path):
    with pytest.raises(
        ConfigError,
        match=r"another contract than the run .*: its vocabulary of \w+ has .+; .* --previous",
    ):
        check_same_encoding(first_run, two_days.second_day_alone(shared_root()))
    with pytest.raises(
        ConfigError, match="was prepared with another contract than the run .*: its name is 'another', not"
    ):
        other = small_run.of_another_schema(second.directory, tmp_path / "other")
        check_same_encoding(first_run, Manifest.load(other))
    copy = shutil.copytree(second.directory, tmp_path / "copy")
    table = pq.read_table(copy / "items/items.parquet")
    ids = table["id"].to_numpy().copy()
    ids[[3, 4]] = ids[[4, 3]]
    pq.write_table(table.set_column(table.column_names.index("id"), "id", [ids]), copy / "items/items.parquet")
    small_run.sign_prepared(Manifest.load(copy, verify=False))
    with pytest.raises(ConfigError, match=r"has another items/items\.parquet than the run"):
        check_same_encoding(first_run, Manifest.load(copy))


def test_other_boundaries_are_refused_though_they_begin_alike(tmp_path):
    """Quantiles are found once and kept; a boundary more would move every row behind it."""
    manifest = two_days.first_day(shared_root())
    features = tuple(
        replace(f, encoding=replace(f.encoding, boundaries=None, quantiles=4)) if f.name == "play_time" else f
        for f in manifest.schema.features
    )
    schema = replace(manifest.schema, features=features)
    fitted = FeatureEncoder.load(manifest.directory).fitted
    for name, boundaries in (("run", [1.0, 2.0]), ("same", [1.0, 2.0]), ("other", [1.0, 2.0, 5.0])):
        FeatureEncoder(schema, {**fitted, "play_time": boundaries}).save(tmp_path / name)
        (tmp_path / name / "items").mkdir()
        shutil.copyfile(f"{manifest.directory}/items/items.parquet", tmp_path / name / "items/items.parquet")
    replace(two_days.config_of(manifest), schema=schema).save(tmp_path / "run/config.yaml")
    text = json.dumps({**json.loads(manifest.to_json()), "schema_fingerprint": schema.fingerprint})
    check_same_encoding(tmp_path / "run", Manifest.from_json(text, str(tmp_path / "same")))
    with pytest.raises(
        ConfigError, match=r"its boundaries of play_time are \[1, 2, 5\], not \[1, 2\]; preprocess with"
    ):
        check_same_encoding(tmp_path / "run", Manifest.from_json(text, str(tmp_path / "other")))


def test_what_is_counted_of_items_is_renewed_without_new_items(first_run, first, tmp_path):
    later = shutil.copytree(first.directory, tmp_path / "later")
    table = pq.read_table(later / "items/items.parquet")
    place = table.column_names.index("click_rate")
    pq.write_table(
        table.set_column(place, "click_rate", [np.full(len(table), 2, np.int32)]), later / "items/items.parquet"
    )
    small_run.sign_prepared(Manifest.load(later, verify=False))
    features = run_with_catalogue(first_run, later).model.item_embedding.item_features.numpy()
    assert (features[2:, -1] == 2).all()
    before = load_run(first_run).model.item_embedding.item_features.numpy()
    assert (before[2:, -1] != 2).any()
    np.testing.assert_array_equal(features[:, :-1], before[:, :-1])
