"""Raw values as JSON become exactly what the pipeline's encoder makes of them, or one sentence."""

import io
import json

import numpy as np
import pytest

from export.client.json_request import answer_as_json, encode_request, load_encoder, read_request
from export.client.request import ClickResponse, normalise
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.features.encoders import FeatureEncoder, hash_id
from twin_tf.features.schema import schema_from_mapping

VOCABULARY = {"kind": "vocabulary"}


OFFERS = (
    {"name": "offer", "role": "candidate", "column": "price_now", "encoding": {"kind": "numeric", "boundaries": [5]}},
    {"name": "deal", "role": "candidate", "encoding": VOCABULARY},
    {"name": "ctr", "role": "candidate", "from": "item_rate", "encoding": {"kind": "numeric", "boundaries": [0.5]}},
    {"name": "rank", "role": "candidate", "encoding": {"kind": "identity", "size": 9}, "serve_as": 1},
)


def encoder(ids="int", clustered=False, more=(), **time):
    schema = schema_from_mapping(
        {
            "name": "shop",
            "events": {
                "user": {"column": "user"},
                "item": {"column": "sku", "type": ids},
                "time": {"column": "at", **time},
                "label": {"column": "click"},
            },
            "users": {"column": "user"},
            "history": {"clustered": clustered},
            "features": [
                {"name": "product", "role": "inherent", "column": "sku", "encoding": {"kind": "hash", "buckets": 5}},
                {"name": "price", "role": "cross", "encoding": {"kind": "numeric", "boundaries": [1, 10]}},
                {"name": "channel", "role": "cross", "column": "via", "encoding": VOCABULARY},
                {"name": "hour", "role": "cross", "derived": "hour_of_day"},
                {"name": "segment", "role": "user", "encoding": VOCABULARY},
                {"name": "page", "role": "context", "column": "page_type", "encoding": VOCABULARY},
                *more,
            ],
        }
    )
    fitted = {"channel": ["app", "web"], "segment": ["new", "old"], "page": ["home"], "deal": ["2 for 1"]}
    return FeatureEncoder(schema, fitted)


REQUEST = {
    "history": [
        {"sku": 7, "at": 300, "price": 0.5, "via": "web"},
        {"sku": 9, "at": 100, "price": 10, "via": "pigeon"},
        {"sku": 8, "at": 200, "price": None},
    ],
    "user": {"segment": "old"},
    "context": {"page_type": "home"},
    "request_time": 400,
    "candidates": [7, 5],
}


def test_values_are_encoded_and_behaviours_sent_oldest_first():
    inputs = normalise(encode_request(encoder(), REQUEST))
    assert {name: array.tolist() for name, array in inputs.items()} == {
        "history_item": [[9, 8, 7]],
        "history_time": [[100, 200, 300]],
        "history_price": [[4, 1, 2]],  # at least 10, missing, below 1
        "history_channel": [[1, 1, 3]],
        "history_length": [3],
        "request_time": [400],
        "candidate_item": [[7, 5]],
        "candidate_count": [2],
        "user_segment": [3],
        "context_page": [2],
    }


def test_behaviours_may_stand_for_clusters_where_the_model_knows_them():
    history = [{**REQUEST["history"][0], "cluster_size": 12}, *REQUEST["history"][1:]]
    asked = encode_request(encoder(clustered=True), {**REQUEST, "history": history})
    assert normalise(asked)["history_count"].tolist() == [[1, 1, 12]]
    assert "history_count" not in normalise(encode_request(encoder(), REQUEST))
    with pytest.raises(ConfigError, match="unknown column 'cluster_size'"):
        encode_request(encoder(), {**REQUEST, "history": history})
    for wrong in (0, -1, 1.5, True, "2", 2**31):
        history[0]["cluster_size"] = wrong
        with pytest.raises(ConfigError, match=r"history\[0\].cluster_size must be a whole number from 1 to"):
            encode_request(encoder(clustered=True), {**REQUEST, "history": history})


def test_a_candidate_may_say_what_is_known_of_it():
    candidates = [{"sku": 7, "price_now": 4.5, "deal": "2 for 1"}, 5, {"sku": "6", "price_now": 5}]
    inputs = normalise(encode_request(encoder(more=OFFERS), {**REQUEST, "candidates": candidates}))
    assert inputs["candidate_item"].tolist() == [[7, 5, 6]]
    assert inputs["candidate_offer"].tolist() == [[2, 1, 3]]
    assert inputs["candidate_deal"].tolist() == [[2, 1, 1]]
    assert "candidate_rank" not in inputs
    assert inputs["candidate_ctr"].tolist() == [[0, 0, 0]]  # as the catalogue has it
    candidates[1:] = [{"sku": 5, "ctr": 0.6}, {"sku": 6, "ctr": None}]
    told = normalise(encode_request(encoder(more=OFFERS), {**REQUEST, "candidates": candidates}))
    assert told["candidate_ctr"].tolist() == [[0, 3, 1]]
    plain = {"history_item": [1], "history_time": [1], "request_time": 2, "candidate_item": [3, 4]}
    assert normalise(plain, encoder(more=OFFERS).schema)["candidate_ctr"].tolist() == [[0, 0]]
    wrong = {
        r"candidates\[1\] needs 'sku'": {"price_now": 1},
        r"candidates\[1\] has an unknown column 'price'; did you mean 'price_now'": {"sku": 1, "price": 1},
        r"candidates\[1\] has 'rank', but every candidate is served with 1; leave it out": {"sku": 1, "rank": 3},
        r"candidates\[1\] is null": {"sku": None},
    }
    for sentence, candidate in wrong.items():
        with pytest.raises(ConfigError, match=sentence):
            encode_request(encoder(more=OFFERS), {**REQUEST, "candidates": [5, candidate]})


def test_text_ids_travel_as_their_hashes():
    request = {"history": [{"sku": "tea", "at": 1}], "request_time": 2, "candidates": ["cup", "5"]}
    inputs = normalise(encode_request(encoder("string"), request))
    assert inputs["history_item"].tolist() == [[hash_id("tea")]]
    assert inputs["candidate_item"].tolist() == [[hash_id("cup"), hash_id("5")]]


@pytest.mark.parametrize("wrong", [None, float("nan"), 1.5, True, ["tea"], "\ud800"])
def test_a_text_id_that_is_none_is_refused_not_hashed(wrong):
    request = {"history": [], "request_time": 2, "candidates": ["cup", wrong]}
    with pytest.raises(ConfigError):
        encode_request(encoder("string"), request)


def test_the_digits_of_a_large_number_may_come_as_text():
    large = 2**53 + 1
    request = {"history": [{"sku": str(large), "at": 1}], "request_time": 2, "candidates": [str(large), "-5", 7]}
    inputs = normalise(encode_request(encoder(), request))
    assert inputs["history_item"].tolist() == [[large]]
    assert inputs["candidate_item"].tolist() == [[large, -5, 7]]


@pytest.mark.parametrize(
    ("time", "written", "now", "expected"),
    [
        ({}, [300.75, 100, 200.0], 400.5, [100, 200, 300, 400]),
        (
            {"format": "iso8601", "unit": "ms"},
            ["1970-01-01T00:00:00.300Z", "1970-01-01 00:00:00.1", 200],
            "1970-01-01T01:00:00.4+01:00",
            [100, 200, 300, 400],
        ),
        ({"format": "%d.%m.%Y", "timezone": "Asia/Tokyo"}, ["03.01.1970", "02.01.1970", 86_400], "04.01.1970",
         [54_000, 86_400, 140_400, 226_800]),
    ],
)  # fmt: skip
def test_times_are_taken_as_the_log_writes_them(time, written, now, expected):
    history = [{"sku": 1, "at": moment} for moment in written]
    asked = {"history": history, "request_time": now, "candidates": [3]}
    inputs = normalise(encode_request(encoder(**time), asked))
    assert [*inputs["history_time"][0].tolist(), *inputs["request_time"].tolist()] == expected
    with pytest.raises(ConfigError, match="'noon' is no "):
        encode_request(encoder(**time), {**asked, "request_time": "noon"})


def test_behaviours_of_one_moment_keep_their_order():
    history = [{"sku": sku, "at": 5} for sku in (3, 1, 2)]
    inputs = normalise(encode_request(encoder(), {**REQUEST, "history": history}))
    assert inputs["history_item"].tolist() == [[3, 1, 2]]


def test_history_user_and_context_may_be_left_out():
    inputs = normalise(encode_request(encoder(), {"request_time": 1, "candidates": [3]}))
    assert inputs["history_length"].tolist() == [0]
    assert (inputs["user_segment"].tolist(), inputs["context_page"].tolist()) == ([1], [1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"candidate": [1]}, "the request has an unknown key 'candidate'; did you mean 'candidates'?"),
        ({"request_time": ...}, "the request needs the key 'request_time'"),
        ({"candidates": ...}, "the request needs the key 'candidates'"),
        ({"candidates": 5}, "candidates must be a list"),
        ({"candidates": "tea"}, "candidates must be a list"),
        ({"candidates": []}, "candidates must be a list of at least one item id"),
        ({"candidates": ["tea"]}, "ids and times must be whole numbers or written as in the logs"),
        ({"candidates": [1.5]}, "ids and times must be whole numbers"),
        ({"candidates": [None]}, "candidates[0] is null; leave out"),
        ({"candidates": [7, float("nan")]}, "candidates[1] is NaN; leave out"),
        ({"history": [{"sku": None, "at": 1}]}, "history[0].sku is null; leave out"),
        ({"history": [{"sku": 1, "at": None}]}, "history[0].at is null; leave out"),
        ({"request_time": None}, "request_time is null; leave out"),
        ({"candidates": [True]}, "ids and times must be whole numbers"),
        ({"candidates": [2**64]}, "ids and times must be whole numbers"),
        ({"request_time": "noon"}, "ids and times must be whole numbers"),
        ({"request_time": 1e300}, "ids and times must be whole numbers"),
        ({"request_time": "1.5"}, "ids and times must be whole numbers"),
        ({"history": None}, "history must be a list"),
        ({"history": {"sku": 1}}, "history must be a list"),
        ({"history": [[1, 2]]}, "history[0] must be an object with sku, at, not [1, 2]"),
        ({"history": [{"sku": 1}]}, "history[0] needs 'at'"),
        ({"history": [{"sku": 1, "at": 1}, {"at": 1}]}, "history[1] needs 'sku'"),
        ({"history": [{"sku": 1, "at": "x"}]}, "ids and times must be whole numbers"),
        ({"history": [{"sku": 1, "at": True}]}, "ids and times must be whole numbers"),
        ({"history": [{"sku": 1, "at": 1, "prize": 2}]}, "history[0] has an unknown column 'prize'; did you mean"),
        ({"history": [{"sku": 1, "at": 1, "price": "dear"}]}, "feature 'price' needs numbers"),
        ({"history": [{"sku": 1, "at": 1, "price": 10**400}]}, "feature 'price' needs numbers"),
        ({"user": {"sgment": "old"}}, "user has an unknown column 'sgment'; did you mean 'segment'?"),
        ({"user": ["old"]}, "user must be an object, not ['old']"),
        ({"context": {"page": "home"}}, "context has an unknown column 'page'; did you mean 'page_type'?"),
        ({"context": None}, "context must be an object, not None"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence(change, words):
    request = {key: value for key, value in {**REQUEST, **change}.items() if value is not ...}
    with pytest.raises(ConfigError) as caught:
        encode_request(encoder(), request)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_requests_are_read_from_a_file_or_from_standard_input(tmp_path, monkeypatch):
    (tmp_path / "request.json").write_text(json.dumps(REQUEST))
    assert read_request(str(tmp_path / "request.json")) == REQUEST
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(REQUEST)))
    assert read_request("-") == REQUEST


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot read the request"),
        (b"{", "is not valid JSON"),
        (b"[1]", "must be a JSON object, not list"),
        (b"\xff\xfe{", "is UTF-16; save it as UTF-8"),
        (b'{"user": {"segment": ' + b"[" * 900 + b"]" * 900 + b"}}", "is nested more than 50 levels deep"),
        (b'{"request_time": ' + b"9" * 5_000 + b"}", "it holds a number of thousands of digits"),
        (b'{"candidates": ["\\ud800"]}', "it holds half of a surrogate pair"),
        (b'{"candidates": [1], "candidates": [2]}', "has the key 'candidates' twice"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, content, words):
    path = tmp_path / "request.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_request(str(path))
    assert str(path) in str(caught.value)
    assert words in str(caught.value)


def test_a_directory_without_a_schema_is_no_model(tmp_path):
    with pytest.raises(ConfigError, match=r"is no exported model: it has no assets\.extra/schema\.yaml"):
        load_encoder(tmp_path)


def test_the_encoder_travels_with_the_model(tmp_path):
    encoder().save(tmp_path / "assets.extra")
    loaded = load_encoder(tmp_path)
    assert loaded.schema == encoder().schema
    assert loaded.encode("channel", ["web", "app", "?"]).tolist() == [3, 2, 1]


def test_the_answer_ranks_the_candidates_as_they_were_named():
    answer = ClickResponse(
        probability=np.array([[0.25, 0.75, 0.5]], np.float32),
        weights_version=np.array([11]),
        table_version=np.array([12]),
        unknown_items=np.array([1], np.int32),
        behaviours_seen=np.array([4], np.int32),
        adjusted=np.array([2], np.int32),
        model_version=13,
    )
    assert answer_as_json({"candidates": ["tea", "cup", "pot"]}, answer) == {
        "candidates": [
            {"item": "cup", "probability": 0.75},
            {"item": "pot", "probability": 0.5},
            {"item": "tea", "probability": 0.25},
        ],
        "unknown_items": 1,
        "behaviours_seen": 4,
        "adjusted": 2,
        "weights_version": 11,
        "table_version": 12,
        "model_version": 13,
    }
