"""Are the signatures of a model exactly those of the contract?"""

from collections.abc import Mapping

from export.contract.signatures import SignatureContract, TensorContract, expected_signatures
from export.gate.check import BEFORE, Check, first_faults
from export.session.cpp_session import Signature, TensorSpecification
from twin_tf.features.schema import FeatureSchema


def check_signatures(schema: FeatureSchema, found: Mapping[str, Signature], *, earlier: bool = False) -> Check:
    """Compares names, types and ranks.

    Args:
        schema: of the model.
        found: its signatures.
        earlier: of a model that was exported before there were digests: what came with them and since may be missing.
    """
    faults = []
    expected = expected_signatures(schema)
    faults += [f"signature {name} is missing" for name in sorted(set(expected) - set(found))]
    faults += [f"signature {name} is not in the contract" for name in sorted(set(found) - set(expected))]
    for name in sorted(set(expected) & set(found)):
        faults += _signature_faults(name, expected[name], found[name], earlier)
    said = f"; {BEFORE}: what its graph puts right it does not say" if earlier else ""
    return first_faults("signatures", faults, f"{', '.join(sorted(expected))} as the contract has them{said}")


def _signature_faults(name: str, expected: SignatureContract, found: Signature, earlier: bool) -> list[str]:
    faults = []
    sides = (("input", expected.inputs, found.inputs), ("output", expected.outputs, found.outputs))
    for side, contracts, tensors in sides:
        needed = {key for key, contract in contracts.items() if not (earlier and contract.later)}
        faults += [f"{name} lacks the {side} {key}" for key in sorted(needed - set(tensors))]
        faults += [f"{name} has an extra {side} {key}" for key in sorted(set(tensors) - set(contracts))]
        for key in sorted(set(contracts) & set(tensors)):
            fault = _tensor_fault(contracts[key], tensors[key], is_input=side == "input")
            if fault:
                faults.append(f"{name}'s {side} {key} {fault}")
    return faults


def _tensor_fault(contract: TensorContract, tensor: TensorSpecification, is_input: bool) -> str:
    if tensor.dtype != contract.dtype:
        return f"is {tensor.dtype}, not {contract.dtype}"
    if tensor.shape is None:
        return f"has an unknown rank, not {contract.rank}"
    if len(tensor.shape) != contract.rank:
        return f"has rank {len(tensor.shape)}, not {contract.rank}"
    if is_input and any(size != -1 for size in tensor.shape):
        return f"has the fixed shape {list(tensor.shape)}; every dimension must be free"
    return ""
