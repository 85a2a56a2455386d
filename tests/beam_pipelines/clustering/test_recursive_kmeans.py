"""Recursive k-means: what every clustering must be, what degenerate sets become, and how near flat k-means it comes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from beam_pipelines.clustering.recursive_kmeans import split_recursively


def distortion(vectors, cluster):
    """Mean squared distance of the vectors from the mean of their cluster."""
    total = sum(((vectors[cluster == c] - vectors[cluster == c].mean(axis=0)) ** 2).sum() for c in np.unique(cluster))
    return total / len(vectors)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(0, 400),
    width=st.integers(1, 6),
    groups=st.integers(1, 4),
    gamma=st.integers(1, 30),
    exponent=st.sampled_from([0.01, 0.3, 0.7, 1.0]),
    distinct=st.integers(1, 300),
    seed=st.integers(0, 5),
)
def test_every_vector_is_in_one_cluster_of_its_group_that_is_small_enough(
    n, width, groups, gamma, exponent, distinct, seed
):
    generator = np.random.default_rng(seed)
    vectors = generator.normal(size=(distinct, width)).astype(np.float32)[generator.integers(0, distinct, n)]
    group = generator.integers(0, groups, n) * 7 - 3
    cluster = split_recursively(vectors, group, gamma=gamma, exponent=exponent, seed=seed)
    assert cluster.shape == (n,)
    _, first, size = np.unique(cluster, return_index=True, return_counts=True)
    assert (np.diff(first) > 0).all()  # numbered by the earliest member
    assert cluster.max(initial=-1) + 1 == len(first)  # without gaps
    assert size.max(initial=0) <= gamma
    assert len(np.unique(np.stack([cluster, group]), axis=1).T) == len(first)
    for value, count in zip(*np.unique(group, return_counts=True), strict=True):
        if count <= gamma:  # small enough as it is
            assert len(set(cluster[group == value])) == 1
    again = split_recursively(vectors, group, gamma=gamma, exponent=exponent, seed=seed)
    np.testing.assert_array_equal(again, cluster)


def test_what_cannot_be_told_apart_is_cut_by_its_order_into_equal_pieces():
    vectors = np.ones((50, 3), np.float32)
    cluster = split_recursively(vectors, np.zeros(50, np.int64), gamma=20)
    assert (np.diff(cluster) >= 0).all()
    assert np.bincount(cluster).tolist() == [17, 17, 16]
    zeros = split_recursively(np.zeros((41, 3), np.float32), np.zeros(41, np.int64), gamma=20)
    assert np.bincount(zeros).tolist() == [14, 14, 13]


def test_far_sets_are_never_mixed():
    generator = np.random.default_rng(2)
    centre = 100 * np.eye(30, dtype=np.float32)
    owner = np.repeat(np.arange(30), 15)
    vectors = centre[owner] + generator.normal(size=(450, 30)).astype(np.float32)
    cluster = split_recursively(vectors, np.zeros(450, np.int64), gamma=15)
    mixed = [c for c in np.unique(cluster) if len(set(owner[cluster == c])) > 1]
    # Two far sets may begin with one centroid between them; what holds both is larger than gamma and split again.
    assert mixed == []


@pytest.mark.parametrize("noise", [0.3, 0.7])
def test_it_comes_near_flat_kmeans_with_as_many_clusters(noise):
    generator = np.random.default_rng(4)
    owner = generator.integers(0, 60, 4_000)
    vectors = generator.normal(size=(60, 32))[owner] + noise * generator.normal(size=(4_000, 32))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    cluster = split_recursively(vectors, np.zeros(4_000, np.int64))
    count = int(cluster.max()) + 1
    assert count <= 0.15 * 4_000
    flat = KMeans(count, n_init=1, init="random", random_state=0).fit(vectors)
    assert distortion(vectors, cluster) <= 1.3 * flat.inertia_ / 4_000


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"gamma": 0}, "gamma is 0, a cluster has at least 1 member"),
        ({"exponent": 0.0}, "exponent is 0.0, it must be above 0 and at most 1"),
        ({"exponent": 1.1}, "exponent is 1.1, it must be above 0 and at most 1"),
        ({"vectors": np.full((3, 2), np.nan, np.float32)}, "a vector is not finite"),
    ],
)
def test_bad_arguments_get_a_sentence(change, sentence):
    arguments = {"vectors": np.zeros((3, 2), np.float32), "group": np.zeros(3, np.int64)} | change
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        split_recursively(**arguments)


@pytest.mark.parametrize(("size", "delta"), [(5, 2), (994, 7), (1040, 8), (3000, 11)])
def test_a_set_is_split_into_as_many_clusters_as_delta_says(size, delta):
    """max(2, floor(|V|^0.3)) at once: with gamma just below |V| nothing is split a second time."""
    vectors = np.random.default_rng(1).normal(size=(size, 3)).astype(np.float32)
    cluster = split_recursively(vectors, np.zeros(size, np.int64), gamma=size - 1, seed=1)
    assert len(np.unique(cluster)) == delta
