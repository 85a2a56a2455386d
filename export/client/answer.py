"""A server's answer as arrays, checked against the contract: what comes back is probabilities, or one error."""

from collections.abc import Mapping

import numpy as np

from export.client.request import ClickResponse
from export.client.request_values import behaviours_seen
from export.contract.errors import InvalidAnswerError
from export.contract.signatures import ADJUSTED, CLICK_OUTPUTS, CONTRACT_OUTPUT
from export.contract.tensors import Array, decode
from export.protos import serving_pb2
from twin_tf.features.request_names import CANDIDATE_ITEM

_STATES = {value: name for name, value in serving_pb2.ModelVersionStatus.State.items()}
_PROBABILITY = "probability"


def read_outputs(response: serving_pb2.PredictResponse) -> dict[str, Array]:
    """The outputs of an answer by name.

    Raises:
        InvalidAnswerError: a tensor that cannot be read.
    """
    try:
        return {name: decode(tensor) for name, tensor in response.outputs.items()}
    except ValueError as error:
        raise InvalidAnswerError(f"the server's answer cannot be read: {error}") from error


def click_response(
    response: serving_pb2.PredictResponse, inputs: Mapping[str, Array], model_name: str
) -> ClickResponse:
    """The answer to a click request.

    Args:
        response: of `serving_default`.
        inputs: what was asked, as it was sent.
        model_name: for messages.

    Raises:
        InvalidAnswerError: an output is missing, has another type or shape than the contract's, or holds what is no
            probability.
    """
    outputs = read_outputs(response)
    missing = [name for name, output in CLICK_OUTPUTS.items() if name not in outputs and not output.later]
    if missing:
        raise InvalidAnswerError(f"the answer lacks {', '.join(missing)}; is {model_name!r} a TWIN model?")
    users, candidates = inputs[CANDIDATE_ITEM].shape
    for name, contract in CLICK_OUTPUTS.items():
        if name not in outputs:
            continue
        array = outputs[name]
        if array.dtype.name != contract.dtype or array.ndim != contract.rank:
            raise InvalidAnswerError(
                f"the answer's {name} is {array.dtype.name} of {array.ndim} dimensions, not {contract.dtype} of "
                f"{contract.rank}"
            )
        if len(array) != users:
            raise InvalidAnswerError(f"the answer's {name} has {len(array)} rows for {users} users")
    probability = outputs[_PROBABILITY]
    if probability.shape[1] < candidates:
        raise InvalidAnswerError(f"the answer has {probability.shape[1]} probabilities for {candidates} candidates")
    probability = probability[:, :candidates]  # batching on the server pads to the widest call
    wrong = np.argwhere(~((probability >= 0) & (probability <= 1)))  # NaN compares as neither
    if len(wrong):
        row, column = wrong[0]
        raise InvalidAnswerError(
            f"probability[{row}, {column}] of the answer is {probability[row, column]}, which is no probability"
        )
    return ClickResponse(
        probability=probability,
        weights_version=outputs["weights_version"],
        table_version=outputs["table_version"],
        unknown_items=outputs["unknown_items"],
        behaviours_seen=behaviours_seen(inputs),
        adjusted=outputs.get(ADJUSTED),
        model_version=response.model_spec.version.value,
        contract=outputs.get(CONTRACT_OUTPUT),
    )


def states_by_version(response: serving_pb2.GetModelStatusResponse) -> dict[int, str]:
    """Version -> state, newest first; the reason behind it where a version was refused."""
    entries = sorted(response.model_version_status, key=lambda entry: -entry.version)
    return {
        entry.version: _STATES.get(entry.state, str(entry.state))
        + (f": {entry.status.error_message}" if entry.status.error_message else "")
        for entry in entries
    }
