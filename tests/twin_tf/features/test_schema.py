"""The feature schema: what it accepts, what it refuses and with which sentence, and that it survives being written."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.twin_tf.plain_schema import PLAIN, VOCABULARY, changed, sentence_of
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.features.schema import Encoding, Feature, FeatureSchema, load_schema, schema_from_mapping

CONFIGS = Path(__file__).parents[3] / "twin_tf" / "configs"


def feature(**keys: Any) -> str:
    """The sentence about one feature put in the place of the first."""
    data = changed()
    data["features"][0] = keys
    return sentence_of(data)


def test_a_column_is_read_as_one_type() -> None:
    one = {"name": "one", "role": "cross", "column": "c", "encoding": {"kind": "vocabulary"}}
    two = {"name": "two", "role": "context", "column": "c", "encoding": {"kind": "numeric", "boundaries": [1]}}
    data = changed()
    data["features"] += [one, two]
    assert sentence_of(data) == (
        "schema: feature 'two' reads column 'c' as float, another one as string: give both the same 'type'"
    )
    data["features"][-1] = {**two, "column": data["events"]["time"]["column"]}
    assert schema_from_mapping(data).event_columns()[data["events"]["time"]["column"]] == "int"


def test_roles_keep_their_order_and_tell_stored_from_derived() -> None:
    schema = schema_from_mapping(PLAIN)

    def names(features: tuple[Feature, ...]) -> list[str]:
        return [one.name for one in features]

    assert names(schema.inherent) == ["item_key", "topic"]
    assert names(schema.cross) == ["played", "age", "hour"]
    assert names(schema.stored_cross) == ["played"]
    assert names(schema.user) == ["group"]
    assert names(schema.context) == ["slot", "weekday"]
    assert names(schema.stored_context) == ["slot"]


def test_columns_are_what_each_log_must_have() -> None:
    schema = schema_from_mapping(PLAIN)
    assert schema.event_columns() == {
        "user_id": "int",
        "item_id": "string",
        "ts": "int",
        "click": "int",
        "seconds": "float",
        "slot": "int",
        "surface": "string",
        "sampled": "int",
    }
    assert schema.item_columns() == {"id": "string", "topic": "string"}
    assert schema.user_columns() == {"uid": "int", "group": "string"}


def test_without_an_items_and_a_users_log_their_columns_are_empty() -> None:
    data = changed(
        features=[{"name": "key", "role": "inherent", "column": "item_id", "encoding": {"kind": "vocabulary"}}]
    )
    del data["items"], data["users"]
    schema = schema_from_mapping(data)
    assert schema.item_columns() == {}
    assert schema.user_columns() == {}


def test_types_columns_and_encodings_have_defaults() -> None:
    schema = schema_from_mapping(PLAIN)
    types = {one.name: one.type for one in schema.features if one.derived is None}
    assert types == {"item_key": "string", "topic": "string", "played": "float", "group": "string", "slot": "int"}
    assert schema.feature("topic").column == "topic"
    assert schema.feature("hour").encoding == Encoding("identity", size=24)
    assert schema.feature("weekday").encoding == Encoding("identity", size=7)
    assert schema.feature("topic").dim == 8
    for width in ({}, {"dim": 0}):
        ids = [{"name": "key", "role": "inherent", "column": "id"}, {"name": "member", "role": "user", "column": "uid"}]
        ids = [{**one, **width, "encoding": {"kind": "hash", "buckets": 9}} for one in ids]
        assert [one.dim for one in schema_from_mapping(changed(features=ids)).features] == [64, 64]
    assert schema_from_mapping(schema.to_plain()).fingerprint == schema.fingerprint
    assert schema.events.time.per_second == 1000
    assert (schema.split.train, schema.split.valid) == (0.8, 0.1)


@pytest.mark.parametrize(
    ("encoding", "rows"),
    [
        (Encoding("hash", buckets=10), 12),
        (Encoding("identity", size=3), 5),
        (Encoding("numeric", boundaries=(1.0, 2.0)), 5),
        (Encoding("numeric", boundaries=(1.0,)), 4),
    ],
)
def test_cardinality_counts_padding_and_unknown(encoding: Encoding, rows: int) -> None:
    assert not encoding.fitted
    assert encoding.cardinality() == rows


@pytest.mark.parametrize("encoding", [Encoding("vocabulary"), Encoding("numeric", quantiles=4)])
def test_a_fitted_encoding_has_no_size_before_it_is_fitted(encoding: Encoding) -> None:
    assert encoding.fitted
    with pytest.raises(ConfigError) as caught:
        encoding.cardinality()
    expected = f"the size of a {encoding.kind} encoding is only known after the pipeline has fitted it"
    assert str(caught.value) == expected


def test_a_schema_survives_yaml_and_keeps_its_fingerprint(tmp_path: Path) -> None:
    schema = schema_from_mapping(PLAIN)
    path = tmp_path / "schema.yaml"
    path.write_text(yaml.safe_dump(schema.to_plain(), sort_keys=False))
    again = load_schema(path)
    assert again == schema
    assert again.fingerprint == schema.fingerprint
    path.write_text(yaml.safe_dump({"schema": schema.to_plain(), "model": {}}))
    assert load_schema(path) == schema


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_schemas_survive_a_round_trip(path: Path) -> None:
    schema = load_schema(path)
    assert schema_from_mapping(schema.to_plain()) == schema
    assert isinstance(schema, FeatureSchema)


def test_the_fingerprint_changes_with_every_part_and_with_nothing_else() -> None:
    fingerprint = schema_from_mapping(PLAIN).fingerprint
    assert schema_from_mapping(changed()).fingerprint == fingerprint
    assert schema_from_mapping(dict(reversed(PLAIN.items()))).fingerprint == fingerprint
    assert len(fingerprint) == 16
    others = [changed(name="other"), changed(split={"train": 0.7}), changed(features=PLAIN["features"][::-1])]
    for place, key, value in (("events", "time", {"column": "ts"}), ("history", "max_length", 51)):
        data = changed()
        data[place][key] = value
        others.append(data)
    data = changed()
    data["features"][0]["dim"] = 5
    others.append(data)
    fingerprints = {schema_from_mapping(other).fingerprint for other in others}
    assert len(fingerprints) == len(others)
    assert fingerprint not in fingerprints


def test_an_unknown_feature_names_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        schema_from_mapping(PLAIN).feature("topics")
    assert str(caught.value) == "no feature 'topics'; did you mean 'topic'?"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"feautres": []}, "schema has an unknown key 'feautres'; did you mean 'features'?"),
        (
            {"features": []},
            "schema: at least one inherent feature is needed: the relevance of an item starts from them",
        ),
        ({"features": [PLAIN["features"][0]] * 2}, "schema: feature 'item_key' is listed twice"),
        ({"users": None}, "schema: user features need a users log: give 'users: {column: <its id column>}'"),
        (
            {"items": None},
            "schema: inherent features other than the item id need an items log: give 'items: {column: ...}'",
        ),
        ({"history": {"max_length": 0}}, "schema.history: max_length must lie between 1 and 1000000, not 0"),
        ({"targets": {"per_record": 0}}, "schema.targets: per_record must be at least 1, not 0"),
        (
            {"split": {"train": 0.9, "valid": 0.2}},
            "schema.split: shares train=0.9, valid=0.2 must be positive and add up to at most 1",
        ),
        (
            {"split": {"valid_from": 5}},
            "schema.split: valid_from and test_from go together: give both or neither",
        ),
        (
            {"split": {"valid_from": 5, "test_from": 4}},
            "schema.split: valid_from 5 must not be later than test_from 4",
        ),
        (
            {"split": {"by": "day"}},
            "schema.split.by must be one of time, user_time, user, column, not 'day'",
        ),
        (
            {"split": {"column": "fold"}},
            "schema.split: by: column and column go together: column names the column that holds the split",
        ),
        (
            {"split": {"by": "user", "gap": 5}},
            "schema.split: valid_from, test_from and gap are for by: time, not for by: user; leave them out",
        ),
        (
            {"split": {"by": "column", "column": "fold", "train": 0.5}},
            "schema.split: train and valid are shares, and with by: column the column decides; leave them out",
        ),
        (
            {"split": {"by": "column", "column": "click"}},
            "schema: split.column reads column 'click' as text, but it is read as int elsewhere: give the split a "
            "column of its own",
        ),
        (
            {"events": PLAIN["events"] | {"label": {"column": "y", "values": [0, 1], "positive": [2]}}},
            "schema.events.label: positive [2] must be some, not all, of values [0, 1]",
        ),
        (
            {"events": PLAIN["events"] | {"label": {"column": "y", "values": [1], "positive": [1]}}},
            "schema.events.label: positive [1] must be some, not all, of values [1]",
        ),
        (
            {"events": PLAIN["events"] | {"time": {"column": "t", "unit": "h"}}},
            "schema.events.time.unit must be one of s, ms, us, ns, not 'h'",
        ),
        (
            {"items": {"column": "id"}},
            "schema: items.type is int, the events' is string: the same ids need one type",
        ),
        (
            {"history": {"where": {"click": ["1"]}}},
            "schema: history.where.click holds '1', but the column is int",
        ),
        ({"items": {"colunm": "id"}}, "schema.items has an unknown key 'colunm'; did you mean 'column'?"),
    ],
)
def test_a_broken_schema_is_refused_in_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    assert sentence_of(changed(**changes)) == sentence


def test_several_values_have_columns_of_their_own_and_a_column_is_split_in_one_way() -> None:
    data = changed()
    data["features"][1]["multi_valued"] = {"separator": "|", "max_values": 3}
    data["features"].append({"name": "tags", "role": "inherent", "multi_valued": {}, "encoding": VOCABULARY})
    schema = schema_from_mapping(data)
    assert schema_from_mapping(schema.to_plain()) == schema
    assert schema.multi_valued_columns() == {"topic": "|", "tags": ""}
    assert schema.item_columns() == {"id": "string", "topic": "string", "tags": "string"}
    assert schema.inherent_slices == {"item_key": slice(0, 1), "topic": slice(1, 4), "tags": slice(4, 12)}
    assert schema_from_mapping(PLAIN).multi_valued_columns() == {}
    again = {"name": "again", "role": "inherent", "column": "topic", "encoding": VOCABULARY}
    for other in ({}, {"multi_valued": {"separator": ","}}, {"multi_valued": {}}):
        assert sentence_of({**data, "features": [*data["features"], {**again, **other}]}) == (
            "schema: feature 'again' and another reader of column 'topic' split it differently: give both the same "
            "'multi_valued.separator', and none to an id"
        )
    again["multi_valued"] = {"separator": "|", "max_values": 1}
    assert schema_from_mapping({**data, "features": [*data["features"], again]}).inherent_slices["again"].stop == 13
    data["features"][0]["multi_valued"] = {}
    assert "feature 'item_key' and another reader of column 'id' split it differently" in sentence_of(data)


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        (
            {"name": "a b", "encoding": VOCABULARY},
            "feature name 'a b' must be letters, digits and _ and none of the reserved names",
        ),
        (
            {"name": "label", "encoding": VOCABULARY},
            "feature name 'label' must be letters, digits and _ and none of the reserved names",
        ),
        ({"name": "x"}, "feature 'x' needs an 'encoding'"),
        ({"name": "x", "encoding": VOCABULARY, "dim": -1}, "feature 'x': dim must be at least 1, or left out, not -1"),
        ({"name": "x", "derived": "age", "encoding": VOCABULARY}, "feature 'x': derived age needs role cross"),
        ({"name": "x", "derived": "hour_of_day"}, "feature 'x': derived hour_of_day needs role cross or context"),
        (
            {"name": "x", "role": "cross", "derived": "day_of_week", "encoding": VOCABULARY},
            "feature 'x': day_of_week has an encoding of its own; leave it out",
        ),
        (
            {"name": "x", "role": "cross", "derived": "age", "encoding": {"kind": "numeric", "quantiles": 3}},
            "feature 'x': derived age needs a numeric encoding with boundaries in seconds",
        ),
        (
            {"name": "x", "role": "user", "multi_valued": {}, "encoding": VOCABULARY},
            "feature 'x': multi_valued needs role inherent, not user",
        ),
        (
            {"name": "x", "multi_valued": {}, "encoding": {"kind": "numeric", "quantiles": 3}},
            "feature 'x': multi_valued needs a vocabulary, hash or identity encoding, not numeric",
        ),
        (
            {"name": "x", "role": "cross", "derived": "age"},
            "feature 'x': derived age needs a numeric encoding with boundaries in seconds",
        ),
    ],
)
def test_a_broken_feature_is_refused_in_one_sentence(keys: dict[str, Any], sentence: str) -> None:
    assert feature(**({"role": "inherent"} | keys)) == f"schema.features[0]: {sentence}"


@pytest.mark.parametrize(
    ("encoding", "sentence"),
    [
        ({"kind": "hash"}, ": a hash encoding needs 'buckets'"),
        ({"kind": "hash", "buckets": 0}, ": a hash encoding needs 'buckets'"),
        ({"kind": "identity"}, ": an identity encoding needs 'size'"),
        ({"kind": "numeric"}, ": a numeric encoding needs either 'boundaries' or 'quantiles'"),
        (
            {"kind": "numeric", "boundaries": [1], "quantiles": 3},
            ": a numeric encoding needs either 'boundaries' or 'quantiles'",
        ),
        ({"kind": "numeric", "boundaries": [2, 1]}, ": boundaries must be one or more rising numbers, not [2.0, 1.0]"),
        ({"kind": "numeric", "boundaries": []}, ": boundaries must be one or more rising numbers, not []"),
        ({"kind": "vocabulary", "min_count": 0}, ": min_count must be at least 1, not 0"),
        ({"kind": "numeric", "boundaries": [1, 1]}, ": boundaries must be one or more rising numbers, not [1.0, 1.0]"),
        ({"kind": "numeric", "quantiles": 1}, ": quantiles must be at least 2, not 1"),
        ({"kind": "vocab"}, ".kind must be one of vocabulary, hash, numeric, identity, not 'vocab'"),
        ({"kind": "vocabulary", "mincount": 1}, " has an unknown key 'mincount'; did you mean 'min_count'?"),
    ],
)
def test_a_broken_encoding_is_refused_in_one_sentence(encoding: dict[str, Any], sentence: str) -> None:
    assert feature(name="x", role="inherent", encoding=encoding) == f"schema.features[0].encoding{sentence}"


def test_a_feature_keeps_at_least_one_value() -> None:
    sentence = feature(name="x", role="inherent", encoding=VOCABULARY, multi_valued={"max_values": 0})
    assert sentence == "schema.features[0].multi_valued: max_values must be at least 1, not 0"


@pytest.mark.parametrize(("size", "kind"), [(-3, "identity"), (-3, "hash")])
def test_a_negative_size_is_refused(size: int, kind: str) -> None:
    key = "size" if kind == "identity" else "buckets"
    sentence = feature(name="x", role="inherent", encoding={"kind": kind, key: size})
    article = "an" if kind == "identity" else "a"
    assert sentence == f"schema.features[0].encoding: {article} {kind} encoding needs {key!r}"
