"""What searches find: of the behaviours that their attention wants, of those that simulated logs planted."""

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.reference import network
from tests.twin_tf.built_once import shared_root
from tests.twin_tf.small_run import small_config, small_data, small_run
from twin_tf.core.keras_api import tf
from twin_tf.experiments.comparison.consistency import hits_by_age, hits_by_size
from twin_tf.experiments.comparison.ground_truth import Truth, recall_of
from twin_tf.models.twin import TwinModel
from twin_tf.records.format import Manifest
from twin_tf.records.input_pipeline import make_dataset
from twin_tf.runs.run import build_model, load_run

pytestmark = pytest.mark.integration


@pytest.mark.slow
def test_planted_behaviours_that_a_search_finds_as_the_logs_tell_it() -> None:
    root = shared_root()
    small_data(root)
    run, manifest = load_run(small_run(root)), Manifest.load(root / "prepared")
    truth, every = Truth(root / "raw" / "truth"), 10**6
    found = recall_of(run, manifest, truth, every)
    short = dataclasses.replace(run, model=build_model(run.directory, small_config("model.search=din"), run.info)[0])
    latest = recall_of(short, manifest, truth, every)
    assert found is not None and latest is not None and short.model.window < run.model.window
    assert latest["targets"] == found["targets"] and latest["guessed"] == found["guessed"]
    assert found is not None and 0 < found["recall"] < 1 and found["guessed"] < found["precision"] < 1
    assert found["guessed"] == pytest.approx(_share_of_relevant(root, manifest, run.model.window))
    own, run.model.long_term.search.top_k = run.model.long_term.search.top_k, run.model.window
    try:
        whole = recall_of(run, manifest, truth, every)
    finally:
        run.model.long_term.search.top_k = own
    assert whole is not None and whole["recall"] == 1.0 and whole["precision"] == whole["guessed"]
    assert whole["guessed"] == found["guessed"]


def _share_of_relevant(root: Path, manifest: Manifest, window: int) -> float:
    """By the definition, from the logs: no record, no model."""
    rows = pq.read_table(root / "raw" / "truth" / "matches.parquet").to_pylist()
    rows.sort(key=lambda row: (row["user_id"], row["time"]))
    tested = {
        (user, time)
        for user, times in _test_targets(manifest)
        for time in times
    }  # fmt: skip
    shares = []
    for user, group in itertools.groupby(rows, key=lambda row: row["user_id"]):
        mine = list(group)
        for target in mine:
            if not target["target"] or (user, target["time"]) not in tested or target["interest"] < 0:
                continue
            before = [row["interest"] for row in mine if row["click"] and row["time"] < target["time"]][-window:]
            if target["interest"] in before:
                shares.append(before.count(target["interest"]) / len(before))
    return float(np.mean(shares))


def _test_targets(manifest: Manifest) -> Iterator[tuple[int, list[int]]]:
    for batch in make_dataset(manifest, "test", manifest.schema.history.max_length, 1):
        yield int(batch.user_id[0]), batch.targets.time.numpy()[0].tolist()


def test_twins_search_hands_over_what_its_attention_wants() -> None:
    root = shared_root()
    small_data(root)
    model, manifest = load_run(small_run(root)).model, Manifest.load(root / "prepared")
    curve = hits_by_size(model, manifest, records=6)
    assert curve is not None
    shares = {row["size"]: row["share"] for row in curve}
    assert list(shares) == [10, 20, 50, 100, 200, model.config.history_length]
    assert all(a <= b for a, b in zip(shares.values(), list(shares.values())[1:], strict=False))
    assert shares[100] == shares[200] == 1.0 and shares[10] < 0.5
    assert small_config().model.history_length == model.config.history_length


def _untrained(manifest: Manifest, *settings: str) -> TwinModel:
    """A model whose weights are nothing in particular."""
    run = load_run(small_run(shared_root()))
    model, _ = build_model(run.directory, small_config(*settings), run.info)
    generator = np.random.default_rng(4)
    for variable in model.trainable_variables:
        variable.assign_add(generator.normal(0, 0.3, variable.shape).astype(np.float32))
    return model


def _hits(model: TwinModel, manifest: Manifest, size: int) -> float:
    """By the definition, in NumPy: of the attention's true 100, those among the search's `size`."""
    found, weights, window = [], [], model.config.history_length
    for batch in make_dataset(manifest, "test", window, 4, every=10**6):
        arrays = tf.nest.map_structure(np.asarray, batch)
        finder = model.auxiliary or model
        hits = wanted = 0
        for user, count in enumerate(arrays.targets.count):
            for target in range(count):
                end = network.end_of(arrays, user, target)
                places = range(max(0, end - window), end)
                alpha = network.alpha_of(model, model.long_term, arrays, user, target)
                seen = [place in places for place in range(alpha.shape[1])]
                true = network.attention.merge_heads(alpha, seen, 100)
                if model.long_term.search.name == "din":
                    chosen = list(places)[-size:]
                else:
                    other = network.alpha_of(finder, finder.long_term, arrays, user, target)
                    chosen = network.attention.merge_heads(other, seen, size)
                hits, wanted = hits + len(set(true) & set(chosen)), wanted + len(true)
        if wanted:
            found.append(hits / wanted)
            weights.append(arrays.targets.count.sum())
    return float(np.average(found, weights=weights))


@pytest.mark.parametrize("setting", ["search=din", "consistency=auxiliary"])
def test_another_search_hands_over_what_a_loop_says(setting: str) -> None:
    root = shared_root()
    manifest = small_data(root)
    model = _untrained(manifest, f"model.{setting}")
    curve = hits_by_size(model, manifest, records=1)
    assert curve is not None
    shares = {row["size"]: row["share"] for row in curve}
    assert 0 < shares[20] < shares[100] < 1 == shares[model.config.history_length]
    for size in (20, 100):
        assert shares[size] == pytest.approx(_hits(model, manifest, size), abs=1e-6)


@pytest.mark.slow
def test_an_ageing_table_finds_less() -> None:
    root = shared_root()
    manifest = small_data(root)
    rows = hits_by_age(str(small_run(root)), manifest, (0, 5, 40), records=8)
    assert [row["age"] for row in rows] == [0, 5, 40]
    assert rows[0]["share"] == 1 > rows[1]["share"] > rows[2]["share"] > 0
    assert rows[0]["moved"] == pytest.approx(0, abs=1e-5) and rows[1]["moved"] < rows[2]["moved"]
