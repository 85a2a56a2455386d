"""The served contract as data: the signatures an exported model has, given its schema.

The exporter makes them, the gate compares with them, tests build toys from them.

Example:
    >>> expected_signatures(load_schema("assets.extra/schema.yaml"))["self_check"].inputs
    {'probe': TensorContract(dtype='int32', rank=1)}
"""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from twin_tf.features.request_names import dtype_of, rank_of, request_inputs

if TYPE_CHECKING:
    from twin_tf.features.schema import FeatureSchema

WHOLE_TABLE = -1  # the probe that makes `self_check` compare every row


@dataclasses.dataclass(frozen=True)
class TensorContract:
    """One input or output: NumPy dtype name and number of dimensions; dimension 0 is the user (batch) dimension.

    `width` is the size of dimension 2 of an input where only one will do; it is checked in the graph, not declared.
    `later` marks an output that models exported before there were digests lack.
    """

    dtype: str
    rank: int
    width: int | None = None
    later: bool = False


@dataclasses.dataclass(frozen=True)
class SignatureContract:
    """The inputs and outputs of one signature, by name."""

    inputs: Mapping[str, TensorContract]
    outputs: Mapping[str, TensorContract]


CONTRACT_OUTPUT = "contract"
"""Of every signature: the contract of the weights, `twin_tf.features.contract.Contract.number`, for each user."""
ADJUSTED = "adjusted"
"""How many values of a user the graph put right."""

_VERSIONS = {
    "weights_version": TensorContract("int64", 1),
    "table_version": TensorContract("int64", 1),
    CONTRACT_OUTPUT: TensorContract("int64", 1, later=True),
}
_COUNTS = {"unknown_items": TensorContract("int32", 1), ADJUSTED: TensorContract("int32", 1, later=True)}
CLICK_OUTPUTS = {"probability": TensorContract("float32", 2), **_COUNTS, **_VERSIONS}
"""The outputs of `serving_default`."""

_DIGESTS = {"assets": TensorContract("int64", 1, later=True), "understood": TensorContract("int64", 2, later=True)}
"""Of `self_check`: the digest of the assets, and the contracts whose indices mean the same, its own the first."""


def request_contract(schema: "FeatureSchema") -> dict[str, TensorContract]:
    """The inputs of `serving_default` and `retrieve`."""
    return {name: TensorContract(dtype_of(name), rank_of(name)) for name in request_inputs(schema)}


def feature_contract(schema: "FeatureSchema") -> dict[str, TensorContract]:
    """The features of items as inputs, `item_<feature>`: of a multi-valued feature `max_values` indices, 0 padding."""
    return {
        f"item_{feature.name}": TensorContract("int32", 2)
        if feature.multi_valued is None
        else TensorContract("int32", 3, width=feature.max_values)
        for feature in schema.inherent
    }


def expected_signatures(schema: "FeatureSchema") -> dict[str, SignatureContract]:
    """Every signature of an exported model."""
    request = request_contract(schema)
    item = {"item": TensorContract("int64", 2)}
    projection = {"projection": TensorContract("float32", 3), "found": TensorContract("bool", 2)}
    return {
        "serving_default": SignatureContract(request, CLICK_OUTPUTS),
        "item_projection": SignatureContract(item, {**projection, **_VERSIONS}),
        "live_projection": SignatureContract(
            {**item, **feature_contract(schema)},
            {**projection, "live": TensorContract("bool", 2), **_VERSIONS},
        ),
        "retrieve": SignatureContract(
            request,
            {
                "position": TensorContract("int32", 3),
                "item": TensorContract("int64", 3),
                "score": TensorContract("float32", 3),
                "valid": TensorContract("bool", 3),
                **_COUNTS,
                **_VERSIONS,
            },
        ),
        "self_check": SignatureContract(
            {"probe": TensorContract("int32", 1)},
            {
                "disagreement": TensorContract("float32", 1),
                "checked": TensorContract("int32", 1),
                **_DIGESTS,
                **_VERSIONS,
            },
        ),
    }
