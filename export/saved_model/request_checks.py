"""The shapes of a request, checked in the graph: what is wrong is said before any computation trips over it.

A server does not enforce the shapes that a signature declares. Each rule is one sentence; breaking it is
INVALID_ARGUMENT.
"""

from collections.abc import Mapping

from export.contract.signatures import TensorContract
from twin_tf.core.keras_api import tf
from twin_tf.features.request_names import CANDIDATE_ITEM, HISTORY_ITEM

Tensors = dict[str, tf.Tensor]

_LEADERS = {"history": HISTORY_ITEM, "candidate": CANDIDATE_ITEM, "item": "item"}
_COLUMNS = {"history": "behaviours", "candidate": "candidates", "item": "items"}


def checked(inputs: Tensors, contracts: Mapping[str, TensorContract], most_columns: Mapping[str, int]) -> Tensors:
    """The inputs of a signature behind its checks.

    All inputs have the same number of users. Inputs of more than one dimension whose names begin with that of
    `history_item`, `candidate_item` or `item` have its shape, and a third dimension, where there is one, the width of
    the contract. Bounds come before all computation: what a call needs grows with the product of its widths.

    Args:
        inputs: by name.
        contracts: the signature's.
        most_columns: name -> how many columns an input may have; where none is named, any number.
    """
    ranked = {name: _of_rank(name, inputs[name], contract.rank) for name, contract in contracts.items()}
    sizes = {name: tf.shape(value) for name, value in ranked.items()}
    first = next(iter(contracts))
    checks = []
    for name, contract in contracts.items():
        leader = _LEADERS.get(name.split("_")[0])
        if contract.rank == 1 or leader in (None, name):
            rule = f"{name} must have as many users as {first}"
            checks.append(_require(sizes[name][:1], sizes[first][:1], rule))
        else:
            rule = f"{name} must have the shape of {leader}"
            checks.append(_require(sizes[name][:2], sizes[leader][:2], rule))
        if contract.width is not None:
            rule = f"{name} must have {contract.width} values for each item, padded with 0"
            checks.append(_require(sizes[name][2:], [contract.width], rule))
    for name in (name for name in contracts if name in most_columns):
        most = most_columns[name]
        rule = f"{name} must have at most {most} {_COLUMNS[name.split('_')[0]]} for a user"
        checks.append(_require(tf.maximum(sizes[name][1:], most), [most], rule))
    if HISTORY_ITEM in contracts:
        rule = "history_item must not be empty; a user without history sends one column and history_length 0"
        checks.append(_require(tf.minimum(sizes[HISTORY_ITEM][1:], 1), [1], rule))
    with tf.control_dependencies(checks):
        sound = {name: tf.identity(value) for name, value in ranked.items()}
    for name, contract in contracts.items():
        if contract.width is not None:
            sound[name].set_shape([None, None, contract.width])
    return sound


def _of_rank(name: str, value: tf.Tensor, rank: int) -> tf.Tensor:
    """The value, if it has the rank when it runs.

    The optimiser believes the declared shape and folds any check of it away: the check looks at a tensor without one.
    `tf.ensure_shape` would do as much, but what it says names a node of the graph and not the rule.
    """
    doubted = tf.raw_ops.PlaceholderWithDefault(input=value, shape=tf.TensorShape(None))
    axes = ", ".join(["users", _COLUMNS.get(name.split("_")[0], "columns"), "values"][:rank])
    dimensions = "one dimension" if rank == 1 else f"{rank} dimensions"
    check = _require(tf.rank(doubted), rank, f"{name} must have {dimensions} ({axes})")
    with tf.control_dependencies([check]):
        sound = tf.identity(doubted)
    sound.set_shape([None] * rank)
    return sound


def _require(found: tf.Tensor, wanted: tf.Tensor, rule: str) -> tf.Operation:
    holds = tf.reduce_all(tf.equal(found, wanted))
    return tf.raw_ops.Assert(
        condition=holds, data=[tf.constant(f"{rule}; found and wanted:"), found, wanted], summarize=4
    )
