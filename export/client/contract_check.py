"""Do the schema and vocabularies that a client encodes by belong to the weights that a server serves?

A client with the vocabularies of another model sends indices that mean something else, and gets probabilities that
look sound. Every answer says the contract of its weights. One that differs is looked into once: the server says which
earlier contracts its own grew from, and the client's may have grown from the server's.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from export.contract.errors import FailedPreconditionError
from export.contract.signatures import CONTRACT_OUTPUT
from export.contract.tensors import Array
from twin_tf.features.contract import Contract, number_of

if TYPE_CHECKING:
    from export.client.async_client import AsyncTwinClient
    from export.client.base_client import ModelCalls
    from export.client.client import TwinClient
    from export.client.request import ClickResponse

_QUESTION = ("self_check", {"probe": np.zeros(1, np.int32)}, [CONTRACT_OUTPUT, "understood"])


def check_answer(client: "TwinClient", answer: "ClickResponse", contract: Contract) -> None:
    """Whether an answer comes from weights that understand what was encoded by a contract.

    A model that was exported before there were contracts says none, and is taken as it is.

    Args:
        client: that got the answer; asked once more if the contract is another.
        answer: of `predict`.
        contract: `FeatureEncoder.contract` of the encoder in use.

    Raises:
        FailedPreconditionError: the weights were trained with another contract.
        ServingError: the server does not answer.
    """
    if not _is_known(answer.contract, contract):
        _check_understood(client, answer, client.call(*_QUESTION), contract)


async def check_answer_async(client: "AsyncTwinClient", answer: "ClickResponse", contract: Contract) -> None:
    """As `check_answer`, for the client of asyncio."""
    if not _is_known(answer.contract, contract):
        _check_understood(client, answer, await client.call(*_QUESTION), contract)


def _check_understood(
    client: "ModelCalls", answer: "ClickResponse", said: Mapping[str, Array], contract: Contract
) -> None:
    """Raises if what a server says of the contracts that it understands leaves the encoder's out."""
    if "understood" in said and (said["understood"] == contract.number).any():
        return
    raise FailedPreconditionError(
        f"version {answer.model_version} of {client.model_name!r} was trained with another contract than the one that "
        "the request was encoded by: indices mean something else; encode by the assets.extra of the served version"
    )


def _is_known(served: Array | None, contract: Contract) -> bool:
    """The client's own, or one that it grew from: what the server does not have yet is unknown to it."""
    if served is None:
        return True
    known = {contract.number, *(number_of(digest) for digest in contract.earlier)}
    return set(served.tolist()) <= known
