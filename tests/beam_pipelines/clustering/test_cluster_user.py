"""One user's history in clusters, against loops."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from beam_pipelines.clustering.cluster_user import Behaviours, HistoryClusterer, unit_vectors
from twin_tf.config import ClusterConfig
from twin_tf.features.encoders import FeatureEncoder
from twin_tf.features.schema import UNKNOWN, FeatureSchema, schema_from_mapping

ITEMS, WIDTH, BOUNDARIES = 60, 8, [0.1, 0.3, 0.7]


def schema() -> FeatureSchema:
    numeric = {"kind": "numeric", "boundaries": BOUNDARIES}
    return schema_from_mapping(
        {
            "name": "small",
            "events": {name: {"column": name} for name in ("user", "item", "time", "label")},
            "features": [
                {"name": "video", "role": "inherent", "column": "item", "encoding": {"kind": "hash", "buckets": 9}},
                {"name": "share", "role": "cross", "keep_value": True, "encoding": numeric},
                {"name": "place", "role": "cross", "encoding": {"kind": "identity", "size": 5}},
            ],
        }
    )


def behaviours(count: int, seed: int = 1, **changes: Any) -> Behaviours:
    generator = np.random.default_rng(seed)
    share = np.where(generator.random(count) < 0.1, np.nan, generator.random(count) * 1.4 - 0.2)
    encoder = FeatureEncoder(schema(), {})
    history = Behaviours(
        item=generator.integers(1, ITEMS, count),
        time=np.sort(1_700_000_000 + generator.integers(0, 10**6, count)),
        cross={"share": encoder.encode("share", share).astype(np.int64), "place": generator.integers(1, 7, count)},
        number={"share": share.astype(np.float32)},
        count=np.ones(count, np.int64),
    )
    return dataclasses.replace(history, **changes)


def vectors() -> np.ndarray:
    return unit_vectors(np.random.default_rng(5).normal(size=(ITEMS, WIDTH)).astype(np.float32))[0]


def clusterer(**settings: Any) -> HistoryClusterer:
    return HistoryClusterer(vectors(), FeatureEncoder(schema(), {}), ClusterConfig(**{"gamma": 6, **settings}))


def loops(history: Behaviours, cluster: np.ndarray) -> list[tuple[int, int, int, int, int]]:
    """(time, item, share, place, count) of every cluster, one at a time."""
    table, rows = vectors().astype(np.float64), []
    for number in range(cluster.max() + 1):
        members = np.flatnonzero(cluster == number)
        centroid = table[history.item[members]].mean(axis=0)
        distances = np.square(table[history.item[members]] - centroid).sum(axis=1)
        nearest = max(m for m, d in zip(members, distances, strict=True) if d < distances.min() + 1e-9)
        known = [m for m in members if np.isfinite(history.number["share"][m])]
        share = UNKNOWN
        if known:
            mean = np.mean([float(history.number["share"][m]) for m in known])
            share = 2 + sum(mean >= boundary for boundary in BOUNDARIES)
        time = sum(int(history.time[m]) for m in members) // len(members)
        rows.append((time, int(history.item[nearest]), share, int(history.cross["place"][nearest]), len(members)))
    return sorted(rows)


def entries(history: Behaviours) -> list[tuple[int, int, int, int, int]]:
    columns = (history.time, history.item, history.cross["share"], history.cross["place"], history.count)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@pytest.mark.parametrize("completion", [None, "share"])
@pytest.mark.parametrize("count", [1, 5, 6, 7, 50, 700])
def test_entries_are_what_loops_make_of_the_clusters(count: int, completion: str | None) -> None:
    history, made = behaviours(count, seed=count), clusterer(completion=completion)
    cluster = made.members(history)
    found, place = made.compress(history)
    assert sorted(entries(found)) == loops(history, cluster)
    assert [len(set(place[cluster == number])) for number in range(len(found))] == [1] * len(found)
    np.testing.assert_array_equal(np.bincount(place), found.count)
    assert (np.diff(found.time) >= 0).all()
    assert found.count.sum() == count and found.count.max() <= 6
    again, _ = clusterer(completion=completion).compress(history)
    assert entries(again) == entries(found)


def test_no_cluster_holds_different_shares_of_completion() -> None:
    history, made = behaviours(600), clusterer(completion="share", groups=4, gamma=50)
    share = history.number["share"]
    bins = np.where(np.isfinite(share), np.minimum(np.clip(np.nan_to_num(share), 0, 1) * 4 // 1, 3), -1)
    cluster = made.members(history)
    assert all(len(set(bins[cluster == number])) == 1 for number in range(cluster.max() + 1))
    assert len(set(bins)) == 5
    one_group = clusterer(gamma=50).members(history)
    assert any(len(set(bins[one_group == number])) > 1 for number in range(one_group.max() + 1))


@pytest.mark.parametrize(
    "changes",
    [
        {"item": np.full(100, 7)},
        {"item": np.full(100, UNKNOWN)},
        {"item": np.full(100, ITEMS + 1000)},
        {"time": np.full(100, 5)},
        {
            "number": {"share": np.full(100, np.nan, np.float32)},
            "cross": {"share": np.ones(100), "place": np.ones(100)},
        },
        {
            "number": {"share": np.full(100, np.inf, np.float32)},
            "cross": {"share": np.ones(100), "place": np.ones(100)},
        },
    ],
    ids=["one item repeated", "unknown items", "rows of a later catalogue", "one moment", "no number", "infinite"],
)
def test_degenerate_groups_end_cleanly(changes: dict[str, Any]) -> None:
    history = behaviours(100, **changes)
    found, _ = clusterer(completion="share").compress(history)
    assert found.count.sum() == 100 and found.count.max() <= 6
    assert set(found.item) <= set(history.item)
    if "number" in changes:
        assert set(found.cross["share"]) == {UNKNOWN}


def test_a_number_too_large_to_be_kept_leaves_the_index_that_it_has() -> None:
    index = np.array([5, 4, 3])
    share = np.array([np.inf, 0.5, 0.2], np.float32)
    cross = {"share": index, "place": np.ones(3, np.int64)}
    history = behaviours(3, number={"share": share}, cross=cross)
    assert clusterer(gamma=1).compress(history)[0].cross["share"].tolist() == [5, 4, 3]


def test_an_empty_history_stays_empty() -> None:
    assert len(clusterer().compress(behaviours(0))[0]) == 0


def test_embeddings_that_are_no_directions_become_zero_and_are_counted() -> None:
    wild = np.ones((6, 3), np.float32)
    wild[1], wild[2, 0], wild[3, 1], wild[4] = 0, np.nan, np.inf, 3e38
    found, without = unit_vectors(wild)
    assert without == 3
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), [1, 0, 0, 0, 1, 1], rtol=1e-6)


def test_rounding_moves_no_value_over_a_boundary() -> None:
    """0.7 is a boundary and its float32 lies below it: a cluster of such behaviours keeps the index that they have."""
    share = np.full(30, 0.7)
    index = FeatureEncoder(schema(), {}).encode("share", share).astype(np.int64)
    cross = {"share": index, "place": np.ones(30, np.int64)}
    history = behaviours(30, number={"share": share.astype(np.float32)}, cross=cross)
    assert float(np.float32(0.7)) < 0.7
    assert set(clusterer().compress(history)[0].cross["share"]) == {2 + 3}
