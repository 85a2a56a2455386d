"""Is a version what was exported: every file of it, its schema and vocabularies those of its weights?

And does it go in the place of the version that is served? Clients encode by the contract of that one.
"""

import re
from pathlib import Path
from typing import Any

from export.contract.file_manifest import (
    EXPORT,
    EXTRA,
    assets_digest,
    content_digest,
    fault,
    has_manifest,
    read_description,
)
from export.contract.signatures import CONTRACT_OUTPUT
from export.contract.tensors import Array
from export.contract.version_layout import version_numbers
from export.gate.check import BEFORE, Check, first_faults
from export.protos import graph_pb2
from export.session.checkpoint import Checkpoint
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.features.contract import difference, number_of, recorded_contract
from twin_tf.features.encoders import FeatureEncoder

SERVER_VERSION = "2.20.0"
"""The image of TensorFlow Serving that `serving_configs/` names."""
_GRAPH_VERSIONS = {(1, 8): 26, (2, 20): 2288}
"""Release of TensorFlow -> its TF_GRAPH_DEF_VERSION (core/public/version.h), of some; it only rises."""


def check_content(directory: Path) -> Check:
    """Every file is as it was exported, and the weights say the same of contract and assets as the files do."""
    if reason := fault(directory):
        return Check("content", False, reason)
    contract = recorded_contract(directory / EXTRA)
    found = _said_by_weights(directory)
    if contract is None and not found:
        return Check("content", True, f"{BEFORE}: assets.extra cannot be tied to the weights")
    faults = []
    if not has_manifest(directory):
        faults.append(f"{EXTRA}/files.json is missing; export it again")
    if contract is None:
        faults.append(f"{EXTRA}/contract.json is missing; export it again")
    if not found:
        faults.append("the weights say no contract; export it again")
    if not faults and contract is not None:
        if found["contract"] != contract.number:
            faults.append(f"schema and vocabularies in {EXTRA} are not those that the weights were trained with")
        if found["earlier"] != [contract.number, *(number_of(digest) for digest in contract.earlier)]:
            faults.append(f"the weights take other contracts for their own than {EXTRA}/contract.json says")
        if found["assets"] != number_of(assets_digest(directory)):
            faults.append(f"the files of {EXTRA} are not those that were exported with the weights")
    if faults or contract is None:
        return Check("content", False, "; ".join(faults))
    FeatureEncoder.load(directory / EXTRA)  # raises what was changed beside the contract
    return Check("content", True, f"{content_digest(directory)[:16]}, contract {contract.digest[:16]}")


def _said_by_weights(directory: Path) -> dict[str, Any]:
    with Checkpoint(directory) as checkpoint:
        names = ("contract", "assets", "earlier")
        if f"digests/{names[0]}" not in checkpoint.names:
            return {}
        return {name: checkpoint.read(f"digests/{name}").tolist() for name in names}


def check_contract(directory: Path, base_path: Path, allowed: bool) -> tuple[Check, bool]:
    """Whether the contract is that of the version published last, or grew from it, or the other way round.

    Args:
        directory: the new version.
        base_path: of the published ones; the newest that can be read counts.
        allowed: let another contract pass.

    Returns:
        The check, and whether versions can be asked the same.
    """
    try:
        ours = FeatureEncoder.load(directory / EXTRA)
    except (ConfigError, OSError, ValueError) as error:
        return Check("contract", False, str(error)), False
    passed_over = ""
    for number in other_versions(directory, base_path):
        try:
            theirs = FeatureEncoder.load(base_path / str(number) / EXTRA)
        except (ConfigError, OSError, ValueError) as error:
            passed_over += f" (version {number} cannot be read: {error})"
            continue
        clause = difference(ours, theirs)
        if not clause:
            return Check("contract", True, f"that of version {number}{_growth(ours, theirs)}{passed_over}"), True
        detail = f"another one than that of version {number}{passed_over}: {clause}"
        if not allowed:
            detail += "; clients encode by the one that is served; --allow-new-contract lets it pass"
        return Check("contract", allowed, detail), False
    if passed_over:
        return Check("contract", False, f"not compared{passed_over}", unchecked=True), True
    return Check("contract", True, "no version to compare it with"), True


def _growth(ours: FeatureEncoder, theirs: FeatureEncoder) -> str:
    sizes = {name: len(values) - len(theirs.fitted[name]) for name, values in ours.fitted.items()}
    grown = [f"{abs(more):,} {'more' if more > 0 else 'fewer'} of {name}" for name, more in sizes.items() if more]
    return f", with values of vocabularies: {', '.join(grown)}" if grown else ""


def other_versions(directory: Path, base_path: Path) -> list[int]:
    """The versions of a base path but the one that lies in a directory, newest first."""
    numbers = version_numbers(base_path) if base_path.is_dir() else []
    return [n for n in reversed(numbers) if (base_path / str(n)).resolve() != directory.resolve()]


def check_versions(directory: Path, answer: dict[str, Array]) -> Check:
    """What a model says of its versions is what `export.json` says, and its contract is that of the assets.

    Args:
        directory: the model directory.
        answer: of any signature.
    """
    path = directory / EXPORT
    if not path.is_file():
        return Check("versions", False, f"{path} is missing; export it again")
    said = read_description(directory)
    expected: dict[str, int] = {name: said[name] for name in ("weights_version", "table_version") if name in said}
    contract = recorded_contract(directory / EXTRA)
    if contract is not None and CONTRACT_OUTPUT in answer:
        expected[CONTRACT_OUTPUT] = contract.number
    faults = [
        f"the model says {name} {int(answer[name].reshape(-1)[0])}, the files say {value}"
        for name, value in expected.items()
        if (answer[name] != value).any()
    ]
    return first_faults("versions", faults, ", ".join(f"{name} {value}" for name, value in expected.items()))


def check_server(saved: graph_pb2.SavedModel, server_version: str) -> Check:
    """Whether a server of a release of TensorFlow runs the graphs.

    Args:
        saved: the content of `saved_model.pb`.
        server_version: release of the server, `2.20.0`.
    """
    server = release(server_version)
    at_least = max((number for known, number in _GRAPH_VERSIONS.items() if known <= server), default=0)
    exact = server in _GRAPH_VERSIONS
    warning = ""
    for graph in saved.meta_graphs:
        wanted, made_by = graph.graph_def.versions, graph.meta_info_def.tensorflow_version
        if exact and (wanted.min_consumer > at_least or at_least in wanted.bad_consumers):
            return Check(
                "server",
                False,
                f"TensorFlow {server_version}, of graph version {at_least}, cannot run it: it needs "
                f"{wanted.min_consumer} or later; export it with TensorFlow {server_version}, or serve it with a newer",
            )
        if wanted.min_consumer > at_least:
            detail = f"not compared: nobody knows whether TensorFlow {server_version} has graph version "
            return Check("server", False, f"{detail}{wanted.min_consumer}, which it needs", unchecked=True)
        if wanted.producer > at_least if exact else release(made_by or server_version) > server:
            warning = f"warning: made by TensorFlow {made_by or 'unknown'}, newer than the server's {server_version}"
    return Check("server", True, warning or f"TensorFlow {server_version} runs it")


def release(version: str) -> tuple[int, int]:
    """Major and minor number of a release, `2.20.0`.

    Raises:
        ValueError: it is none.
    """
    found = re.match(r"(\d+)\.(\d+)(\D|$)", version)
    if found is None:
        raise ValueError(f"{version!r} is no release of TensorFlow; give one such as {SERVER_VERSION}")
    return int(found[1]), int(found[2])


def check_served_digests(directory: Path, answer: dict[str, Array]) -> list[str]:
    """What `self_check` says of the assets and is not so; nothing of a graph made before there were digests."""
    if "assets" not in answer:
        return []
    if (answer["assets"] != number_of(assets_digest(directory))).any():
        return [f"the model was exported with other files of {EXTRA}"]
    return []
