"""docs/other_languages.md: its test vectors, its hash and its rows of indices are those of the encoder."""

import hashlib
import json
import re

import numpy as np

from tests.docs.pages import ROOT, blocks, section, text_of
from twin_tf.features.contract import number_of
from twin_tf.features.encoders import FeatureEncoder, hash_id
from twin_tf.features.schema import schema_from_mapping

PAGE = text_of(ROOT / "docs/other_languages.md")


def test_the_vectors_are_those_of_the_pipeline_s_hash():
    rows = re.findall(r"^\| (\(empty\)|`[^`]+`) \| `([0-9a-f]{16})` \| (\d+) \|$", PAGE, flags=re.MULTILINE)
    assert len(rows) == 5
    for shown, digest, number in rows:
        text = "" if shown == "(empty)" else shown.strip("`")
        assert hash_id(text) == int(number), text
        assert hashlib.blake2b(text.encode(), digest_size=8).hexdigest() == digest


def test_the_hash_shown_is_the_pipeline_s():
    (code,) = blocks(PAGE, "python")
    names = {}
    exec(compile(code, "docs/other_languages.md", "exec"), names)
    assert [names["hash_id"](text) for text in ("", "grün", "tea-3")] == [hash_id(t) for t in ("", "grün", "tea-3")]


def test_the_indices_shown_are_the_encoder_s():
    values, indices = re.findall(r"^\| (?:value|index) \| (.*) \|$", PAGE, flags=re.MULTILINE)
    schema = {
        "name": "app",
        "events": {name: {"column": name} for name in ("user", "item", "time", "label")},
        "features": [
            {"name": "product", "role": "inherent", "column": "item", "encoding": {"kind": "vocabulary"}},
            {"name": "word", "role": "cross", "encoding": {"kind": "vocabulary"}},
            {"name": "bucket", "role": "cross", "encoding": {"kind": "hash", "buckets": 10}},
            {"name": "seconds", "role": "cross", "encoding": {"kind": "numeric", "boundaries": [5, 20, 60]}},
            {"name": "slot", "role": "cross", "encoding": {"kind": "identity", "size": 4}},
        ],
    }
    encoder = FeatureEncoder(schema_from_mapping(schema), {"product": [], "word": ["a", "b"]})
    given = [None if value == "none" else float(value) for value in values.split(" | ")]
    assert encoder.encode("seconds", given).tolist() == [int(index) for index in indices.split(" | ")]
    assert encoder.encode("word", ["b", "c", None]).tolist() == [2 + 1, 1, 1]
    assert encoder.encode("bucket", ["b", 7]).tolist() == [2 + hash_id("b") % 10, 2 + hash_id("7") % 10]
    assert encoder.encode("slot", [0, 3, 4, 1.5, np.nan]).tolist() == [2, 5, 1, 1, 1]


def test_a_contract_s_number_is_as_described():
    digest = "f" + "0123456789abcde" * 4
    assert number_of(digest) == int(digest[:16], 16) // 2


def test_the_request_shown_names_the_ids_it_says():
    request = json.loads(re.search(r"'(\{.*\})'", section(PAGE, "A request for clicks by REST"), re.DOTALL)[1])
    (user,) = request["instances"]
    assert user["history_item"] == [hash_id("tea-3"), hash_id("books-1")]
    assert user["candidate_item"] == [hash_id("mugs-2"), hash_id("books-1")]
