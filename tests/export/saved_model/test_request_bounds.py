"""In the served graph wrong values are adjusted and counted, and a request that is too wide is refused at once."""

import dataclasses

import numpy as np
import pytest

from export.saved_model.servable import Servable
from tests.export.toy_servable import in_cpp, make_requests, make_toy
from twin_tf.core.keras_api import tf

pytestmark = pytest.mark.integration

LONGEST, MOST = 48, 6


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A toy (its catalogue, its schema) and its model directory, with narrow bounds."""
    toy = make_toy()
    schema = dataclasses.replace(toy.schema, history=dataclasses.replace(toy.schema.history, max_length=LONGEST))
    servable = Servable(toy.model, schema, toy.item_ids, 11, 12, max_candidates=MOST)
    directory = tmp_path_factory.mktemp("bounds") / "model"
    tf.saved_model.save(servable, str(directory), signatures=servable.signatures)
    return toy, directory


def sound_requests(toy, **shape):
    request = make_requests(toy, **shape)
    for name in ("history_play_time", "user_sex", "context_page"):
        request[name] = np.abs(request[name]) % 4
    return request


def test_wrong_values_are_adjusted_and_counted_and_fail_nobody_else(model, tmp_path):
    toy, directory = model
    request = sound_requests(toy)
    length = request["history_length"] = np.array([3, 40, 40, 40, 40, 40], np.int32)
    wrong = {name: value.copy() for name, value in request.items()}
    wrong["history_play_time"][0] = -1  # of the 40 columns 3 are real
    wrong["history_play_time"][1, [4, 8]] = [-1, 10**6]
    wrong["user_sex"][2], wrong["context_page"][2] = -9, 99
    wrong["history_length"][3], wrong["candidate_count"][3] = 1000, -5
    wrong["history_time"][4, 20] = request["history_time"][4, 0] - 7
    right = {name: value.copy() for name, value in wrong.items()}
    right["history_play_time"][0] = right["history_play_time"][1, [4, 8]] = 1
    right["user_sex"][2] = right["context_page"][2] = 1
    right["history_length"], right["candidate_count"][3] = length, 0
    right["history_time"][4, 20] = request["history_time"][4, 19]
    calls = [(directory, name, given) for name in ("serving_default", "retrieve") for given in (request, wrong, right)]
    plain, served, wanted, *retrieved = in_cpp(tmp_path, calls)
    assert plain["adjusted"].tolist() == wanted["adjusted"].tolist() == [0] * 6
    assert served["adjusted"].tolist() == [3, 2, 2, 2, 1, 0]
    assert served["adjusted"].dtype == np.int32
    np.testing.assert_array_equal(served["probability"], wanted["probability"])
    np.testing.assert_array_equal(served["probability"][5], plain["probability"][5])
    assert [answer["adjusted"].tolist() for answer in retrieved] == [[0] * 6, [3, 2, 2, 2, 1, 0], [0] * 6]


def test_a_request_that_is_too_wide_is_refused_with_the_bound(model, tmp_path):
    toy, directory = model
    widest = sound_requests(toy, users=2, columns=LONGEST, candidates=MOST)
    item = toy.item_ids[None, 2 : 2 + MOST]
    features = {f"item_{name}": np.ones((1, MOST + 1), np.int32) for name in toy.schema.inherent_slices}
    wide = toy.item_ids[None, 2 : 3 + MOST]
    longer = sound_requests(toy, users=2, columns=LONGEST + 1, candidates=MOST)
    more = sound_requests(toy, users=2, columns=LONGEST, candidates=MOST + 1)
    behaviours = ("history_item must have at most 48 behaviours for a user", "[49] [48]")
    candidates = ("candidate_item must have at most 6 candidates for a user", "[7] [6]")
    items = ("item must have at most 6 items for a user", "[7] [6]")
    cases = [
        ("serving_default", widest, None),
        ("retrieve", widest, None),
        ("item_projection", {"item": item}, None),
        ("serving_default", longer, behaviours),
        ("retrieve", longer, behaviours),
        ("serving_default", more, candidates),
        ("retrieve", more, candidates),
        ("item_projection", {"item": wide}, items),
        ("live_projection", {"item": wide, **features}, items),
    ]
    answers = in_cpp(tmp_path, [(directory, signature, given) for signature, given, _ in cases])
    for (signature, _, rule), answer in zip(cases, answers, strict=True):
        if rule is None:
            assert isinstance(answer, dict), (signature, answer)
        else:
            assert answer[0] == "INVALID_ARGUMENT"
            assert all(words in answer[1] for words in rule)


def test_a_claim_of_many_candidates_is_refused_before_anything_is_computed(model, tmp_path):
    """One value that the server's parser has spread over 10^6 columns: times 48 behaviours it would be 576 MB."""
    toy, directory = model
    request = {name: value[:1] for name, value in sound_requests(toy, columns=LONGEST, candidates=1).items()}
    request["candidate_item"] = np.broadcast_to(request["candidate_item"], (1, 10**6))
    ((status, sentence),) = in_cpp(tmp_path, [(directory, "serving_default", request)])
    assert (status, "at most 6 candidates" in sentence) == ("INVALID_ARGUMENT", True)
