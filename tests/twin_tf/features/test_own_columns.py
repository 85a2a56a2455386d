"""What an event says beside its features: weight and request have columns of their own, names must not meet."""

from typing import Any

import pytest

from tests.twin_tf.plain_schema import PLAIN, VOCABULARY, changed, sentence_of
from twin_tf.features.schema import schema_from_mapping


def test_a_weight_has_a_column_of_its_own() -> None:
    schema = schema_from_mapping(changed(targets={"weight": "importance"}))
    assert schema.event_columns()["importance"] == "float"
    assert schema.fingerprint != schema_from_mapping(changed(targets={})).fingerprint
    assert schema_from_mapping(schema.to_plain()) == schema
    assert schema_from_mapping(changed(targets={"weight": "seconds"})).event_columns()["seconds"] == "float"
    for column, kind in (("click", "int"), ("item_id", "string"), ("slot", "int")):
        assert sentence_of(changed(targets={"weight": column})) == (
            f"schema: targets.weight reads column {column!r} as a number, but it is read as {kind} elsewhere: give the "
            "weight a column of its own"
        )
    context = {"name": "weight", "role": "context", "encoding": VOCABULARY}
    assert sentence_of(changed(targets={"weight": "w"}, features=[*PLAIN["features"], context])) == (
        "schema: a context feature cannot be called 'weight' beside targets.weight: rename the feature"
    )
    assert schema_from_mapping(changed(features=[*PLAIN["features"], context])).stored_context[-1].name == "weight"


def test_requests_have_a_column_of_their_own() -> None:
    def naming(column: str = "request_id", **changes: Any) -> dict[str, Any]:
        return changed(events={**PLAIN["events"], "request": {"column": column}}, **changes)

    schema, plain = schema_from_mapping(naming()), schema_from_mapping(PLAIN)
    assert schema.event_columns() == {**plain.event_columns(), "request_id": "int"}
    assert schema_from_mapping(schema.to_plain()) == schema
    assert schema.fingerprint != plain.fingerprint and schema.contents_fingerprint == plain.contents_fingerprint
    assert schema.trains_like(plain) and plain.trains_like(schema)
    assert not schema.trains_like(schema_from_mapping(naming(split={"train": 0.7})))
    assert sentence_of(naming("item_id")) == (
        "schema: events.request reads column 'item_id' as a whole number, but it is read as string elsewhere: give the "
        "request a column of its own"
    )
    context = {"name": "request", "role": "context", "encoding": VOCABULARY}
    assert sentence_of(naming(features=[*PLAIN["features"], context])) == (
        "schema: a context feature cannot be called 'request' beside events.request: rename the feature"
    )
    assert schema_from_mapping(changed(features=[*PLAIN["features"], context])).stored_context[-1].name == "request"


@pytest.mark.parametrize("role", ["cross", "context", "candidate"])
def test_names_that_the_pipelines_use_are_refused(role: str) -> None:
    for name in ("user", "item_id", "flags", "earlier", "split"):
        feature = {"name": name, "role": role, "column": "slot", "encoding": VOCABULARY, "type": "int"}
        assert sentence_of(changed(features=[*PLAIN["features"], feature])) == (
            f"schema: a {role} feature cannot be called {name!r}, as the pipelines use it: rename it"
        )
    cross = {"name": "weight", "role": "cross", "column": "slot", "encoding": VOCABULARY, "type": "int"}
    assert "a cross feature cannot be called 'weight' beside targets.weight" in sentence_of(
        changed(targets={"weight": "w"}, features=[*PLAIN["features"], cross])
    )
