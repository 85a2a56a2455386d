"""Candidate features: what is known of what is shown, and what is served where it is unknown when ranking."""

from typing import Any

import pytest

from tests.twin_tf.plain_schema import PLAIN, VOCABULARY, changed, sentence_of
from twin_tf.features.encoders import served_index
from twin_tf.features.request_names import dtype_of, rank_of, request_inputs
from twin_tf.features.schema import FeatureSchema, schema_from_mapping

IDENTITY = {"kind": "identity", "size": 20}
BOUNDARIES = {"kind": "numeric", "boundaries": [1, 2.5]}


def having(**keys: Any) -> dict[str, Any]:
    feature = {"name": "place", "role": "candidate", **keys}
    return changed(features=[*PLAIN["features"], feature])


def test_a_candidate_feature_is_read_of_events_and_asked_for_of_requests() -> None:
    schema = schema_from_mapping(having(column="rank", encoding=VOCABULARY, type="int"))
    assert [f.name for f in schema.candidate] == ["place"]
    assert [f.name for f in schema.of_target] == ["slot", "weekday", "place"]
    assert [f.name for f in schema.stored_target] == ["slot", "place"]
    assert schema.event_columns()["rank"] == "int"
    assert request_inputs(schema) == (*request_inputs(schema_from_mapping(PLAIN)), "candidate_place")
    assert (dtype_of("candidate_place"), rank_of("candidate_place"), rank_of("candidate_count")) == ("int32", 2, 1)
    assert schema_from_mapping(schema.to_plain()) == schema


@pytest.mark.parametrize(
    ("encoding", "serve_as", "index"),
    [
        (IDENTITY, 1, 3),
        (BOUNDARIES, 2.5, 4),
        (BOUNDARIES, 2, 3),
        (BOUNDARIES, -7, 2),
        ({"kind": "hash", "buckets": 1}, "top", 2),
    ],
)
def test_what_is_unknown_when_ranking_has_one_index(encoding: Any, serve_as: Any, index: int) -> None:
    schema = schema_from_mapping(having(encoding=encoding, serve_as=serve_as))
    assert served_index(schema.feature("place"), schema) == index
    assert served_index(schema.feature("slot"), schema) is None
    assert request_inputs(schema) == request_inputs(schema_from_mapping(PLAIN))
    assert [f.name for f in schema.stored_target] == ["slot", "place"]
    again: FeatureSchema = schema_from_mapping(schema.to_plain())
    assert again == schema and again.feature("place").serve_as == serve_as
    assert schema.contents_fingerprint != schema_from_mapping(having(encoding=encoding)).contents_fingerprint


def test_a_boolean_is_served_as_its_number() -> None:
    schema = schema_from_mapping(having(type="bool", serve_as=True))
    assert served_index(schema.feature("place"), schema) == 3
    assert schema_from_mapping(schema.to_plain()) == schema


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"encoding": IDENTITY, "serve_as": 20}, "serve_as must be a whole number from 0 to 19, not 20"),
        ({"encoding": IDENTITY, "serve_as": True}, "serve_as is True, but the column is read as int"),
        ({"encoding": IDENTITY, "serve_as": "top"}, "serve_as is 'top', but the column is read as int"),
        (
            {"encoding": IDENTITY, "type": "float", "serve_as": 1.5},
            "serve_as must be a whole number from 0 to 19, not 1.5",
        ),
        ({"encoding": BOUNDARIES, "serve_as": float("inf")}, "serve_as must be a finite number, not inf"),
        (
            {"encoding": {"kind": "hash", "buckets": 3}, "serve_as": 3},
            "serve_as is 3, but the column is read as string",
        ),
        (
            {"encoding": VOCABULARY, "serve_as": "top"},
            "serve_as needs an encoding known ahead of the logs: boundaries, identity or hash",
        ),
        (
            {"encoding": {"kind": "numeric", "quantiles": 3}, "serve_as": 1.0},
            "serve_as needs an encoding known ahead of the logs: boundaries, identity or hash",
        ),
        ({"role": "context", "encoding": IDENTITY, "serve_as": 1}, "serve_as needs role candidate, not context"),
        ({"derived": "hour_of_day"}, "derived hour_of_day needs role cross or context"),
        ({"encoding": BOUNDARIES, "keep_value": True}, "keep_value needs role cross, a column and a numeric encoding"),
        ({"encoding": VOCABULARY, "multi_valued": {}}, "multi_valued needs role inherent, not candidate"),
    ],
)
def test_what_a_candidate_feature_cannot_be_is_said(keys: dict[str, Any], sentence: str) -> None:
    found = sentence_of(having(**keys))
    assert found in (
        f"schema.features[8]: feature 'place': {sentence}",
        f"schema.features[8]: feature 'place' {sentence}",
    )
