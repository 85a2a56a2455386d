"""Frozen item embeddings: from the training period alone, and what a run makes of them."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.twin_tf.built_once import shared_root
from tests.twin_tf.small_run import decode, small_config, small_data
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.evaluation.evaluate import evaluate_run
from twin_tf.records.format import Manifest, SplitTimes
from twin_tf.records.input_pipeline import load_item_ids
from twin_tf.runs.item_embeddings import load_item_embeddings, make_item_embeddings
from twin_tf.runs.run import SEARCH_STATE, load_run
from twin_tf.training.train import train_model

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def root() -> Path:
    small_data(shared_root())
    return shared_root()


@pytest.fixture(scope="module")
def embeddings(root: Path) -> Path:
    output = root / "item-embeddings"
    if not output.exists():
        make_item_embeddings(root / "prepared", output, width=12)
    return output


def training_items(root: Path) -> np.ndarray:
    """Item rows of all behaviours in the training window."""
    manifest, found = small_data(root), []
    for record in decode(manifest, "histories"):
        found.append(record["history/item"][record["history/time"] < manifest.split.train_until])
    return np.concatenate(found)


def test_items_of_the_training_period_have_one_and_no_others(root: Path, embeddings: Path) -> None:
    manifest, items = small_data(root), training_items(root)
    vectors = load_item_embeddings(embeddings, root / "prepared", manifest.split.train_until)
    assert vectors.shape == (len(load_item_ids(root / "prepared")), 12) and vectors.dtype == np.float32
    assert set(np.flatnonzero(np.abs(vectors).sum(axis=1))) == set(items[items >= 2])
    np.testing.assert_allclose(np.linalg.norm(vectors[items[items >= 2]], axis=1), 1, rtol=1e-5)
    made = json.loads((embeddings / "manifest.json").read_text())
    assert made["behaviours"] == (items >= 2).sum() and made["trained_until"] == manifest.split.train_until


def test_the_seed_decides_and_similar_items_are_near(root: Path, embeddings: Path, tmp_path: Path) -> None:
    make_item_embeddings(root / "prepared", tmp_path / "again", width=12)
    assert (tmp_path / "again" / "embeddings.npy").read_bytes() == (embeddings / "embeddings.npy").read_bytes()
    vectors = load_item_embeddings(embeddings, root / "prepared", 0)
    topic = load_topics(root)
    known = np.flatnonzero(np.linalg.norm(vectors, axis=1) > 0)
    near = vectors[known] @ vectors[known].T
    same = topic[known][:, None] == topic[known][None]
    np.fill_diagonal(near, np.nan)
    assert np.nanmean(near[same]) > np.nanmean(near[~same]) + 0.1


def load_topics(root: Path) -> np.ndarray:
    from twin_tf.records.input_pipeline import load_item_features

    manifest = small_data(root)
    features, _ = load_item_features(root / "prepared", manifest.schema)
    return features[:, manifest.schema.inherent_slices["topic"].start]


@pytest.mark.parametrize("search", ["sim_soft", "sim_cluster"])
def test_a_run_holds_what_its_search_needs(root: Path, embeddings: Path, tmp_path: Path, search: str) -> None:
    mine = tmp_path / "embeddings"
    shutil.copytree(embeddings, mine)
    config = small_config("training.epochs=1", f"model.search={search}", "model.searches.sim_cluster.clusters=30")
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, item_embeddings=str(mine)))
    train_model(root / "prepared", tmp_path / "run", config)
    shutil.rmtree(mine)
    assert (tmp_path / "run" / SEARCH_STATE).is_file()
    state = load_run(tmp_path / "run").model.item_state
    assert state is not None and len(np.unique(state.numpy(), axis=0)) > 20
    assert evaluate_run(tmp_path / "run", root / "prepared")["metrics"]["targets"] > 0


def test_what_cannot_be_used_is_one_sentence(root: Path, embeddings: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no finished item embeddings"):
        load_item_embeddings(root / "prepared" / "items", root / "prepared", 0)
    with pytest.raises(ConfigError, match="know what validation is to show"):
        load_item_embeddings(embeddings, root / "prepared", small_data(root).split.train_until - 1)
    broken = tmp_path / "broken"
    shutil.copytree(embeddings, broken)
    (broken / "embeddings.npy").write_bytes(b"0" + (broken / "embeddings.npy").read_bytes()[1:])
    with pytest.raises(ConfigError, match="is damaged"):
        load_item_embeddings(broken, root / "prepared", 0)
    other = tmp_path / "other"
    shutil.copytree(embeddings, other)
    plain = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps({**plain, "ids_sha256": "0"}))
    with pytest.raises(ConfigError, match="holds embeddings of other items"):
        load_item_embeddings(other, root / "prepared", 0)
    with pytest.raises(ConfigError, match="is not empty"):
        make_item_embeddings(root / "prepared", embeddings)
    with pytest.raises(ConfigError, match="needs training.item_embeddings"):
        train_model(root / "prepared", tmp_path / "run", small_config("model.search=sim_soft"))
    assert not (tmp_path / "run").exists()


def test_data_that_are_not_split_by_time_are_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Histories hold what users of the test split took, and no moment keeps that out."""
    manifest = dataclasses.replace(small_data(root), split=SplitTimes(9, 9, by="user"))
    monkeypatch.setattr(Manifest, "load", lambda *_, **__: manifest)
    with pytest.raises(ConfigError, match="is split by user, .* prepare the data with split.by: time"):
        make_item_embeddings(root / "prepared", tmp_path / "embeddings")
    assert not (tmp_path / "embeddings").exists()
