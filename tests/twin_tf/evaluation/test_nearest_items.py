"""The nearest items of well-known ones, against a loop."""

from pathlib import Path

import numpy as np
import pytest

from tests.twin_tf.small_run import decode
from twin_tf.evaluation import nearest_items as module
from twin_tf.evaluation.nearest_items import nearest_items, nearest_text
from twin_tf.features.encoders import FeatureEncoder
from twin_tf.records.format import Manifest
from twin_tf.records.input_pipeline import load_item_features
from twin_tf.runs.run import load_run

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def found(run: Path) -> dict:
    return nearest_items(run, items=3, nearest=4)


def test_well_known_items_are_the_most_frequent_of_each_name(found: dict, run: Path, manifest: Manifest) -> None:
    count: dict[int, int] = {}
    for record in decode(manifest, "histories"):
        for row in record["history/item"].tolist():
            count[row] = count.get(row, 0) + 1
    loaded = load_run(run)
    by_id = {int(loaded.item_ids[row]): number for row, number in count.items() if row > 1}
    assert found["candidates"] == sum(number >= module.FEWEST for number in by_id.values())
    assert [one["behaviours"] for one in found["items"]] == [by_id[one["item"]] for one in found["items"]]
    assert found["items"][0]["behaviours"] == max(by_id.values())
    assert len({one["name"] for one in found["items"]}) == 3


def test_the_nearest_are_those_of_the_highest_cosine_but_for_the_same_name(found: dict, run: Path) -> None:
    loaded = load_run(run)
    row_of = {int(raw): row for row, raw in enumerate(loaded.item_ids)}
    embedded = loaded.model.item_embedding(np.arange(len(loaded.item_ids))).numpy()

    def cosine(one: int, other: int) -> float:
        first, second = embedded[row_of[one]], embedded[row_of[other]]
        return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))

    for one in found["items"]:
        cosines = [other["cosine"] for other in one["nearest"]]
        assert cosines == sorted(cosines, reverse=True)
        assert cosines == pytest.approx([cosine(one["item"], other["item"]) for other in one["nearest"]], abs=1e-5)
        assert one["name"] not in [other["name"] for other in one["nearest"]]
        assert len({other["name"] for other in one["nearest"]}) == 4


def test_names_are_the_texts_of_the_catalogue(found: dict, run: Path) -> None:
    encoder = FeatureEncoder.load(run)
    features, ids = load_item_features(run, encoder.schema)
    one = found["items"][0]
    row = int(np.flatnonzero(ids == one["item"])[0])
    for name in ("topic", "category"):
        index = features[row, encoder.schema.inherent_slices[name].start]
        assert str(encoder.fitted[name][index - 2]) in one["name"].split(" / ")
    assert f"{one['name']} ({one['behaviours']:,} behaviours): " in nearest_text(found)


def test_without_items_that_are_known_there_is_nothing_to_show(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEWEST", 10**9)
    assert nearest_items(run) == {"candidates": 0, "cosine_p99": None, "items": []}
