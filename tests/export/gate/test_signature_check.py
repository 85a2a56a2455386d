"""What a model may lack: nothing, unless it was exported before there were digests."""

import dataclasses

import pytest

from export.contract.signatures import expected_signatures
from export.gate.signature_check import check_signatures
from export.session.cpp_session import Signature, TensorSpecification
from twin_tf.config import load_config

SCHEMA = load_config("simulated").schema


def found(without=()):
    """The signatures of a model of today, without some outputs of each."""

    def tensors(contracts):
        return {
            name: TensorSpecification(name, contract.dtype, (-1,) * contract.rank)
            for name, contract in contracts.items()
            if name not in without
        }

    return {
        name: Signature(tensors(signature.inputs), tensors(signature.outputs))
        for name, signature in expected_signatures(SCHEMA).items()
    }


@pytest.mark.parametrize("output", ["adjusted", "contract", "assets", "understood"])
def test_what_came_with_digests_or_since_is_missed_in_models_of_today_alone(output):
    assert check_signatures(SCHEMA, found()).ok
    check = check_signatures(SCHEMA, found({output}))
    assert not check.ok and f"lacks the output {output}" in check.detail
    assert check_signatures(SCHEMA, found({output}), earlier=True).ok


def test_an_earlier_model_lacks_nothing_else():
    for output in ("probability", "table_version", "found", "position"):
        check = check_signatures(SCHEMA, found({output}), earlier=True)
        assert not check.ok and f"lacks the output {output}" in check.detail


def test_another_rank_or_a_fixed_shape_is_named():
    request = found()["serving_default"]
    candidate = request.inputs["candidate_item"]
    for shape, words in (((-1,), "has rank 1, not 2"), ((-1, 7), r"has the fixed shape [-1, 7]")):
        inputs = {**request.inputs, "candidate_item": dataclasses.replace(candidate, shape=shape)}
        check = check_signatures(SCHEMA, {**found(), "serving_default": dataclasses.replace(request, inputs=inputs)})
        assert not check.ok and f"serving_default's input candidate_item {words}" in check.detail
