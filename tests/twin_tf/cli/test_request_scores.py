"""Requests of many lines become bounded batches; what is wrong with a line is said with its number."""

import json

import numpy as np
import pytest

from twin_tf.cli import request_scores
from twin_tf.cli.request_scores import _BadLines, _encoded, _Request, batches, joined
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.features.encoders import FeatureEncoder
from twin_tf.features.schema import schema_from_mapping


def encoder():
    """Of a shop with text ids."""
    schema = {
        "name": "shop",
        "events": {
            "user": {"column": "user"},
            "item": {"column": "sku", "type": "string"},
            "time": {"column": "at"},
            "label": {"column": "click"},
        },
        "features": [
            {"name": "product", "role": "inherent", "column": "sku", "encoding": {"kind": "hash", "buckets": 5}},
            {"name": "price", "role": "cross", "encoding": {"kind": "numeric", "boundaries": [1, 10]}},
        ],
    }
    return FeatureEncoder(schema_from_mapping(schema), {})


def line(behaviours=2, candidates=("a",)):
    history = [{"sku": "a", "at": at, "price": 5} for at in range(behaviours)]
    return json.dumps({"history": history, "request_time": 100, "candidates": list(candidates)})


def read(tmp_path, *lines, skip=False):
    """The sound requests of a file, and what became of the others."""
    path = tmp_path / "requests.jsonl"
    path.write_text("\n".join(lines))
    bad = _BadLines("requests.jsonl", skip)
    return list(_encoded(path, encoder(), bad)), bad


def sized(line_number, behaviours, candidates):
    arrays = {"history_item": np.zeros((1, behaviours)), "candidate_item": np.zeros((1, candidates))}
    return _Request(line_number, [], arrays)


def test_a_batch_ends_where_its_pairs_or_requests_are_many(monkeypatch):
    monkeypatch.setattr(request_scores, "MOST_REQUESTS", 3)
    monkeypatch.setattr(request_scores, "MOST_PAIRS", 100)
    sizes = [(1, 1), (1, 1), (1, 1), (1, 1), (20, 5), (1, 1), (5, 1), (5, 10), (1000, 9)]
    found = list(batches(sized(number, *size) for number, size in enumerate(sizes)))
    assert [[request.line for request in batch] for batch in found] == [[0, 1, 2], [3], [4], [5, 6], [7], [8]]


def test_requests_are_joined_behind_their_own_columns():
    first = {"history_item": np.array([[7]]), "candidate_item": np.array([[1, 2]]), "request_time": np.array([5])}
    second = {"history_item": np.array([[8, 9]]), "candidate_item": np.array([[3]]), "request_time": np.array([6])}
    assert {name: value.tolist() for name, value in joined([first, second]).items()} == {
        "history_item": [[7, 0], [8, 9]],
        "candidate_item": [[1, 2], [3, 0]],
        "request_time": [5, 6],
    }


def test_lines_are_numbered_as_in_the_file(tmp_path):
    found, _ = read(tmp_path, line(), "", line(0, ("b", "a")))
    assert [(request.line, request.candidates) for request in found] == [(1, ["a"]), (3, ["b", "a"])]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("{", "the request is not valid JSON"),
        ("[1]", "the request must be a JSON object, not list"),
        ('{"candidates": ["a"]}', "the request needs the key 'request_time'"),
        ('{"candidates": [], "request_time": 3}', "candidates must be a list of at least one item id"),
        ('{"candidates": ["a"], "request_time": 3, "age": 1}', "the request has an unknown key 'age'"),
    ],
)
def test_a_bad_line_is_named_and_ends_it_or_is_left_out(tmp_path, bad, reason, capsys):
    with pytest.raises(ConfigError, match=f"^requests.jsonl, line 2: {reason}.*--skip-bad-lines$"):
        read(tmp_path, line(), bad, line())
    found, left_out = read(tmp_path, line(), bad, line(), skip=True)
    left_out.warn()
    assert [request.line for request in found] == [1, 3] and left_out.count == 1
    assert capsys.readouterr().err.startswith(f"warning: requests.jsonl, line 2: {reason}")


def test_only_the_first_bad_lines_are_named(tmp_path, capsys):
    _, bad = read(tmp_path, *["{"] * 25, line(), skip=True)
    bad.warn()
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 11 and said[-1] == "warning: 15 more lines of requests.jsonl are left out"
