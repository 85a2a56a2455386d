"""Raw values to indices: the index space, equal results from every container, and hashes that must never change."""

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.features import arrow_vocabulary
from twin_tf.features.encoders import FeatureEncoder, encode_ids, hash_id
from twin_tf.features.schema import FIRST_KNOWN, UNKNOWN, IdColumn, schema_from_mapping

BUCKETS = 7
BOUNDARIES = [-1.0, 0.0, 2.5]
QUANTILES = [1.0, 10.0]
SIZE = 5
WORDS = ["blue", "green", "3", "grün"]

SCHEMA = schema_from_mapping(
    {
        "name": "encoders",
        "events": {
            "user": {"column": "user"},
            "item": {"column": "item"},
            "time": {"column": "time"},
            "label": {"column": "label"},
        },
        "items": {"column": "item"},
        "features": [
            {"name": "word", "role": "inherent", "encoding": {"kind": "vocabulary"}},
            {"name": "bucket", "role": "inherent", "encoding": {"kind": "hash", "buckets": BUCKETS}},
            {
                "name": "words",
                "role": "inherent",
                "multi_valued": {"max_values": 3},
                "encoding": {"kind": "vocabulary"},
            },
            {
                "name": "tags",
                "role": "inherent",
                "multi_valued": {"separator": "; "},
                "encoding": {"kind": "hash", "buckets": BUCKETS},
            },
            {
                "name": "places",
                "role": "inherent",
                "type": "int",
                "multi_valued": {"max_values": 2},
                "encoding": {"kind": "identity", "size": SIZE},
            },
            {"name": "number", "role": "cross", "encoding": {"kind": "numeric", "boundaries": BOUNDARIES}},
            {"name": "fitted", "role": "cross", "encoding": {"kind": "numeric", "quantiles": 3}},
            {"name": "position", "role": "cross", "encoding": {"kind": "identity", "size": SIZE}},
        ],
    }
)
ENCODER = FeatureEncoder(SCHEMA, {"word": WORDS, "words": WORDS, "fitted": QUANTILES})

TEXTS = st.lists(st.none() | st.sampled_from(WORDS) | st.text(max_size=8))
NUMBERS = st.lists(st.none() | st.floats(width=64) | st.sampled_from([*BOUNDARIES, *range(-1, SIZE + 1)]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 3797230976420062948),
        ("a", 3405396810240292928),
        ("video-1", 8360940653618621488),
        ("grün", 1110599336200759785),
        ("1000001", 7211168705016659534),
    ],
)
def test_hash_id_never_changes(text: str, expected: int) -> None:
    assert hash_id(text) == expected


@given(st.text())
def test_hash_id_is_a_non_negative_int64(text: str) -> None:
    assert 0 <= hash_id(text) < 2**63


def test_encode_ids_keeps_integers_and_hashes_strings() -> None:
    whole = encode_ids(IdColumn("id"), [3, 2**62, -1])
    assert whole.dtype == np.int64
    assert whole.tolist() == [3, 2**62, -1]
    hashed = encode_ids(IdColumn("id", "string"), ["b", "a", "b"])
    assert hashed.dtype == np.int64
    assert hashed.tolist() == [hash_id("b"), hash_id("a"), hash_id("b")]
    assert encode_ids(IdColumn("id", "string"), []).tolist() == []


@given(st.lists(st.text(max_size=5)))
def test_encode_ids_is_the_same_for_every_container(values: list[str]) -> None:
    column = IdColumn("id", "string")
    expected = [hash_id(value) for value in values]
    for container in containers(values, pa.string()):
        assert encode_ids(column, container).tolist() == expected


def containers(values: list[Any], kind: pa.DataType) -> list[Any]:
    """The same values as a tuple, NumPy object array, and pyarrow array, chunked array and dictionary arrays."""
    array = pa.array(values, kind)
    half = len(values) // 2
    objects = np.empty(len(values), object)
    objects[:] = values
    chunked = pa.chunked_array([array[:half], array[half:]])
    return [tuple(values), objects, array, chunked, array.dictionary_encode(), chunked.dictionary_encode()]


def test_a_vocabulary_starts_at_2_and_everything_else_is_unknown() -> None:
    encoded = ENCODER.encode("word", ["blue", "green", "3", 3, "grün", "Blue", "", None, math.nan])
    assert encoded.dtype == np.int32
    assert encoded.tolist() == [2, 3, 4, 4, 5, 1, 1, 1, 1]


def test_whole_numbers_find_their_text_in_a_vocabulary() -> None:
    for values in ([3, 4], np.array([3, 4]), pa.array([3, 4])):
        assert ENCODER.encode("word", values).tolist() == [4, UNKNOWN]


def test_hash_buckets_are_those_of_hash_id() -> None:
    values = ["a", "b", 7, None, math.nan]
    expected = [2 + hash_id("a") % BUCKETS, 2 + hash_id("b") % BUCKETS, 2 + hash_id("7") % BUCKETS, 1, 1]
    assert ENCODER.encode("bucket", values).tolist() == expected


@given(st.lists(st.none() | st.lists(st.none() | st.sampled_from([*WORDS, "", "?", "!"]), max_size=6)))
def test_lists_are_their_values_each_once_cut_and_padded(lists: list[list[str | None] | None]) -> None:
    expected = []
    for values in lists:
        each = [int(ENCODER.encode("word", [value])[0]) for value in values or [] if value]
        expected.append(list(dict.fromkeys(each)) or [UNKNOWN])
    array = pa.array(lists, pa.list_(pa.string()))
    half = len(lists) // 2
    for container in (lists, tuple(lists), array, pa.chunked_array([array[:half], array[half:]])):
        found = ENCODER.encode("words", container)
        assert found.dtype == np.int32
        assert found.tolist() == [(row + [0, 0])[:3] for row in expected]
        offsets, indices = ENCODER.encode_many("words", container)
        assert [indices[a:b].tolist() for a, b in pairwise(offsets)] == expected


def test_a_text_is_split_where_the_schema_says_and_lists_are_taken_as_they_are() -> None:
    expected = [[2 + hash_id(value) % BUCKETS for value in values] for values in (["a", "b c"], ["a"], [])]
    texts = [" a; b c; ; a", "a", "; ", None, math.nan]
    for container in (texts[:3], pa.array(texts[:3]), pa.array(texts[:3]).dictionary_encode()):
        _, indices = ENCODER.encode_many("tags", container)
        assert indices.tolist() == [*expected[0], *expected[1], UNKNOWN]
    assert ENCODER.encode("tags", texts).shape == (5, 8)
    assert ENCODER.encode("tags", [["a", "b c"], np.array(["a"])])[:, :2].tolist() == [expected[0], [*expected[1], 0]]
    assert ENCODER.encode("places", [[4, 9, 0], pa.array([1]).to_pylist(), []]).tolist() == [[6, 1], [3, 0], [1, 0]]
    for name, value in (("words", "blue"), ("tags", 7)):
        with pytest.raises(ConfigError) as caught:
            ENCODER.encode(name, [value])
        assert str(caught.value) == f"feature {name!r} needs a list of values for each item, not {value!r}"


def test_a_boundary_belongs_to_the_bucket_above_it() -> None:
    values = [-5, -1.0, -0.5, 0, 2.4, 2.5, 1e300, None, math.nan, math.inf, -math.inf]
    assert ENCODER.encode("number", values).tolist() == [2, 3, 3, 4, 4, 5, 5, 1, 1, 1, 1]
    assert ENCODER.encode("fitted", [0.5, 1.0, 9.0, 10.0]).tolist() == [2, 3, 3, 4]


def test_identity_keeps_whole_numbers_in_range() -> None:
    values = [0, 4, 5, -1, 1.5, None, math.nan, math.inf]
    assert ENCODER.encode("position", values).tolist() == [2, 6, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(("name", "rows"), [("word", 6), ("bucket", 9), ("number", 6), ("fitted", 5), ("position", 7)])
def test_cardinality_counts_padding_and_unknown(name: str, rows: int) -> None:
    assert ENCODER.cardinality(SCHEMA.feature(name)) == rows


def test_boundaries_are_the_given_or_the_found() -> None:
    assert ENCODER.boundaries(SCHEMA.feature("number")) == BOUNDARIES
    assert ENCODER.boundaries(SCHEMA.feature("fitted")) == QUANTILES


@given(TEXTS, st.sampled_from(["word", "bucket"]))
def test_text_stays_in_the_index_space_whatever_holds_it(values: list[str | None], name: str) -> None:
    encoded = ENCODER.encode(name, values)
    assert encoded.shape == (len(values),)
    assert ((encoded >= UNKNOWN) & (encoded < ENCODER.cardinality(SCHEMA.feature(name)))).all()
    for value, row in zip(values, encoded.tolist(), strict=True):
        known = value is not None and (name == "bucket" or value in WORDS)
        assert (row >= FIRST_KNOWN) == known
        assert ENCODER.encode(name, [value]).tolist() == [row]
    for container in containers(values, pa.string()):
        again = ENCODER.encode(name, container)
        assert again.dtype == np.int32
        assert again.tolist() == encoded.tolist()


@given(NUMBERS, st.sampled_from(["number", "fitted", "position"]))
def test_numbers_stay_in_the_index_space_whatever_holds_them(values: list[float | None], name: str) -> None:
    encoded = ENCODER.encode(name, values)
    assert encoded.shape == (len(values),)
    assert ((encoded >= UNKNOWN) & (encoded < ENCODER.cardinality(SCHEMA.feature(name)))).all()
    for value, row in zip(values, encoded.tolist(), strict=True):
        if value is None or not math.isfinite(value):
            assert row == UNKNOWN
        elif name == "position":
            assert row == (FIRST_KNOWN + value if value in range(SIZE) else UNKNOWN)
        else:
            bounds = BOUNDARIES if name == "number" else QUANTILES
            assert row == FIRST_KNOWN + sum(bound <= value for bound in bounds)
    array = pa.array(values, pa.float64())
    floats = np.array([math.nan if value is None else value for value in values])
    for container in (floats, array, pa.chunked_array([array, array[:0]])):
        assert ENCODER.encode(name, container).tolist() == encoded.tolist()


@pytest.mark.parametrize("kind", [pa.int8(), pa.int32(), pa.int64(), pa.float32(), pa.string(), pa.null()])
def test_nulls_of_every_arrow_type_are_unknown(kind: pa.DataType) -> None:
    for name in ("word", "bucket", "number", "position"):
        assert ENCODER.encode(name, pa.nulls(3, kind)).tolist() == [UNKNOWN] * 3


@pytest.mark.parametrize("values", [["x"], pa.array(["1", "x"])])
def test_numbers_that_are_none_are_refused(values: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        ENCODER.encode("number", values)
    assert str(caught.value) == "feature 'number' needs numbers: could not convert string to float: 'x'"


def test_an_unknown_feature_names_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        ENCODER.encode("wrod", [1])
    assert str(caught.value) == "no feature 'wrod'; did you mean 'word'?"


def test_missing_vocabularies_are_named() -> None:
    with pytest.raises(ConfigError) as caught:
        FeatureEncoder(SCHEMA, {})
    assert str(caught.value) == "no fitted vocabulary or boundaries for word, words, fitted"


def test_what_is_saved_loads_the_same(tmp_path: Path) -> None:
    ENCODER.save(tmp_path)
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert files == [
        "contract.json",
        "schema.yaml",
        *(f"vocabularies/{name}.json" for name in ("fitted", "word", "words")),
    ]
    stored = json.loads((tmp_path / "vocabularies" / "word.json").read_text(encoding="utf-8"))
    assert stored == {"kind": "vocabulary", "values": WORDS}
    loaded = FeatureEncoder.load(tmp_path)
    assert loaded.schema == SCHEMA
    assert loaded.fitted == ENCODER.fitted
    assert loaded.encode("word", ["grün", "no"]).tolist() == [5, 1]


def test_loading_without_a_vocabulary_or_a_schema_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^cannot read .*schema.yaml: No such file or directory$"):
        FeatureEncoder.load(tmp_path)
    ENCODER.save(tmp_path)
    (tmp_path / "vocabularies" / "word.json").unlink()
    with pytest.raises(ConfigError, match=r"^no fitted vocabulary or boundaries for word$"):
        FeatureEncoder.load(tmp_path)


@given(TEXTS, st.integers(1, 5))
def test_a_vocabulary_in_arrow_gives_the_same_rows_and_contract(values: list[Any], read_rows: int) -> None:
    chunks = pa.chunked_array([WORDS[:1], [], WORDS[1:]], pa.string())
    encoder = FeatureEncoder(SCHEMA, {"word": chunks, "words": chunks, "fitted": QUANTILES})
    assert encoder.contract == ENCODER.contract
    assert encoder.cardinality(SCHEMA.feature("word")) == ENCODER.cardinality(SCHEMA.feature("word"))
    column = pa.array(values, pa.string())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrow_vocabulary, "_READ_ROWS", read_rows)
        for array in (column, pa.chunked_array([column, column[:1]]), column.dictionary_encode()):
            assert encoder.encode("word", array).tolist() == ENCODER.encode("word", array.to_pylist()).tolist()
        lists = pa.array([values, None, values[:1], []], pa.list_(pa.string()))
        assert encoder.encode("words", lists).tolist() == ENCODER.encode("words", lists).tolist()
        numbers = pa.array([3, None, 4])
        assert encoder.encode("word", numbers).tolist() == ENCODER.encode("word", ["3", None, "4"]).tolist()


def test_a_vocabulary_in_arrow_is_saved_as_a_list_is(tmp_path: Path) -> None:
    chunks = pa.chunked_array([WORDS[:1], WORDS[1:]], pa.string())
    FeatureEncoder(SCHEMA, {"word": chunks, "words": chunks, "fitted": QUANTILES}).save(tmp_path / "arrow")
    ENCODER.save(tmp_path / "list")
    for path in (tmp_path / "list").rglob("*.*"):
        assert (tmp_path / "arrow" / path.relative_to(tmp_path / "list")).read_bytes() == path.read_bytes()
    content = {"kind": "vocabulary", "values": WORDS}
    assert (tmp_path / "list/vocabularies/word.json").read_text("utf-8") == json.dumps(content, ensure_ascii=False)
