"""The contract of encoded data: what changes it, what may grow, and what was changed after it was made."""

import dataclasses
import json
from pathlib import Path

import pytest

from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.features.contract import CONTRACT, difference, recorded_contract
from twin_tf.features.encoders import FeatureEncoder
from twin_tf.features.schema import IdColumn, schema_from_mapping

DEVICES = ["ios", "android", "web"]


def schema_with(unit="ms", max_length=50, boundaries=(1, 2, 3), width=4, valid_from=None):
    return schema_from_mapping(
        {
            "name": "shop",
            "events": {
                "user": {"column": "user"},
                "item": {"column": "item"},
                "time": {"column": "time", "unit": unit},
                "label": {"column": "click"},
            },
            "users": {"column": "user"},
            "history": {"max_length": max_length},
            "split": {"valid_from": valid_from, "test_from": valid_from},
            "features": [
                {"name": "item_id", "role": "inherent", "column": "item", "encoding": {"kind": "hash", "buckets": 9}},
                {"name": "price", "role": "cross", "encoding": {"kind": "numeric", "boundaries": list(boundaries)}},
                {"name": "stay", "role": "cross", "encoding": {"kind": "numeric", "quantiles": 3}},
                {"name": "device", "role": "user", "dim": width, "encoding": {"kind": "vocabulary"}},
            ],
        }
    )


def encoder(devices=DEVICES, stay=(0.5, 1.5), **changes):
    return FeatureEncoder(schema_with(**changes), {"device": list(devices), "stay": list(stay)})


CHANGES = {
    "its events.time.unit is 's', not 'ms'": {"unit": "s"},
    "its history.max_length is 51, not 50": {"max_length": 51},
    "its feature price.encoding.boundaries is [1.0, 2.5, 3.0], not [1.0, 2.0, 3.0]": {"boundaries": (1, 2.5, 3)},
    "its boundaries of stay are [0.5, 1.6], not [0.5, 1.5]": {"stay": (0.5, 1.6)},
    "its boundaries of stay are [0.5, 1.5, 9], not [0.5, 1.5]": {"stay": (0.5, 1.5, 9)},
    "its feature device.dim is 8, not 4": {"width": 8},
    "its vocabulary of device has 'android' in row 2, not 'ios'": {"devices": ["android", "ios", "web"]},
    "its vocabulary of device has 'web' in row 3, not 'android'": {"devices": ["ios", "web"]},
}


@pytest.mark.parametrize("clause", CHANGES)
def test_a_change_is_named_in_one_clause(clause: str) -> None:
    assert difference(encoder(**CHANGES[clause]), encoder()) == clause
    assert encoder(**CHANGES[clause]).contract.digest != encoder().contract.digest


def test_a_grown_vocabulary_means_the_same_either_way() -> None:
    grown = encoder([*DEVICES, "tv"])
    assert difference(grown, encoder()) == difference(encoder(), grown) == ""
    assert grown.contract.digest != encoder().contract.digest


def test_a_day_that_changes_nothing_adds_no_earlier_contract() -> None:
    own = encoder().contract.digest
    again = FeatureEncoder(schema_with(), encoder().fitted, earlier=["12ab", own, "12ab"])
    assert again.contract.earlier == ("12ab",)


def test_the_split_is_no_part_of_the_contract() -> None:
    assert encoder(valid_from=7).contract == encoder().contract


def test_the_column_of_requests_is_no_part_of_the_contract() -> None:
    """No index, time or width depends on it, so data, runs and models with and without it go together."""

    def naming_requests(**changes):
        schema = schema_with(**changes)
        events = dataclasses.replace(schema.events, request=IdColumn("request_id", "string"))
        return FeatureEncoder(dataclasses.replace(schema, events=events), encoder().fitted)

    assert naming_requests().contract == encoder().contract
    assert difference(naming_requests(), encoder()) == difference(encoder(), naming_requests()) == ""
    assert difference(naming_requests(unit="s"), encoder()) == "its events.time.unit is 's', not 'ms'"


def test_another_set_of_features_is_named() -> None:
    fewer = dataclasses.replace(schema_with(), features=schema_with().features[:-1])
    clause = difference(FeatureEncoder(fewer, {"stay": [0.5, 1.5]}), encoder())
    assert clause == "its features are item_id, price, stay, not item_id, price, stay, device"


def test_the_contract_travels_with_the_files(tmp_path: Path) -> None:
    saved = FeatureEncoder(schema_with(), {"device": DEVICES, "stay": [0.5, 1.5]}, earlier=["12ab"])
    saved.save(tmp_path)
    loaded = FeatureEncoder.load(tmp_path)
    assert recorded_contract(tmp_path) == loaded.contract == saved.contract
    assert loaded.contract.earlier == ("12ab",)
    assert 0 < loaded.contract.number < 1 << 63


EDITS = {
    "schema.yaml": [("unit: ms", "unit: s"), ("max_length: 50", "max_length: 60"), ("- 2.0", "- 2.5")],
    "vocabularies/device.json": [('"ios", "android"', '"android", "ios"'), ('"ios", ', "")],
    "vocabularies/stay.json": [("0.5", "0.6")],
}


@pytest.mark.parametrize(("name", "before", "after"), [(name, *edit) for name in EDITS for edit in EDITS[name]])
def test_an_edited_file_is_named_when_it_is_read(tmp_path: Path, name: str, before: str, after: str) -> None:
    encoder().save(tmp_path)
    text = (tmp_path / name).read_text()
    assert before in text
    (tmp_path / name).write_text(text.replace(before, after))
    with pytest.raises(ConfigError, match=f"{name} was changed after it was made: contract.json beside it says"):
        FeatureEncoder.load(tmp_path)


def test_a_contract_that_was_edited_itself_is_refused(tmp_path: Path) -> None:
    encoder().save(tmp_path)
    plain = json.loads((tmp_path / CONTRACT).read_text())
    plain["vocabularies"]["device"]["size"] = 4
    (tmp_path / CONTRACT).write_text(json.dumps(plain))
    with pytest.raises(ConfigError, match=r"contract\.json was changed after it was made: its digest is another"):
        FeatureEncoder.load(tmp_path)
    for content in ("[]", "{", '{"digest": 3}'):
        (tmp_path / CONTRACT).write_text(content)
        with pytest.raises(ConfigError, match=r"contract\.json"):
            FeatureEncoder.load(tmp_path)


def test_what_was_made_before_there_were_contracts_is_read(tmp_path: Path) -> None:
    encoder().save(tmp_path)
    (tmp_path / CONTRACT).unlink()
    assert recorded_contract(tmp_path) is None
    assert FeatureEncoder.load(tmp_path).fitted["device"] == DEVICES


@pytest.mark.parametrize("content", ["[]", "{", '{"kind": "vocabulary"}', '{"values": 3}', "\xff"])
def test_a_vocabulary_that_is_none_is_named(tmp_path: Path, content: str) -> None:
    encoder().save(tmp_path)
    (tmp_path / "vocabularies/device.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"vocabularies/device\.json (holds no list|is not valid JSON|is not UTF-8)"):
        FeatureEncoder.load(tmp_path)
