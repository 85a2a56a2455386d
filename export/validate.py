"""The gate: is this model directory fit to be published? Loaded as the server loads it, without TensorFlow's Python.

    python -m export.validate models/1700000000 --json

Checks, in order: the directory and its schema; no XLA-only function; it loads in the C++ runtime; exactly the
contract's signatures; `self_check` passes; the warm-up requests pass; served probabilities equal the trainer's on the
probes.
"""

import dataclasses
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from export.cpp_session import Signature, TensorSpecification
from export.errors import ServingError
from export.loaded_version import DEFAULT_SIGNATURE, WARMUP_FILE, LoadedVersion
from export.protos import graph_pb2
from export.signatures import WHOLE_TABLE, SignatureContract, TensorContract, expected_signatures
from export.tensors import Array
from twin_tf.schema import FeatureSchema, load_schema

PROBES_FILE = "assets.extra/probes.npz"
SCHEMA_FILE = "assets.extra/schema.yaml"
TOLERANCE = 1e-5
_XLA = "_XlaMustCompile"
_ROWS_A_CALL = 16


@dataclasses.dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: what was checked.
        ok: whether it holds.
        detail: what was found, one sentence.
        figures: what was measured.
    """

    name: str
    ok: bool
    detail: str
    figures: dict[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class ValidationReport:
    """The outcome; checks after a directory that does not load are not run and not listed."""

    version_dir: str
    ok: bool
    checks: tuple[Check, ...]

    def reason(self) -> str:
        """Why the directory is unfit, one sentence; empty if it is fit."""
        return "; ".join(f"{check.name}: {check.detail}" for check in self.checks if not check.ok)

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self)


def validate(version_dir: str | Path, *, tolerance: float = TOLERANCE) -> ValidationReport:
    """Runs every check on a model directory.

    Args:
        version_dir: the directory with `saved_model.pb`.
        tolerance: the largest allowed difference between a served probability and the trainer's.

    Returns:
        The report; a directory that is unfit is reported, not raised.
    """
    directory = Path(version_dir)
    checks: list[Check] = []

    def run(name: str, check: Callable[[], Check]) -> bool:
        try:
            checks.append(check())
        except ServingError as error:
            checks.append(Check(name, False, error.sentence))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            checks.append(Check(name, False, str(error).split("\n", 1)[0]))
        return checks[-1].ok

    if run("directory", lambda: _check_directory(directory)) and run("no_xla", lambda: _check_no_xla(directory)):
        loaded: list[LoadedVersion] = []
        if run("loads", lambda: _check_loads(directory, loaded)):
            version = loaded[0]
            schema = load_schema(directory / SCHEMA_FILE)
            if run("signatures", lambda: _check_signatures(schema, version.session.signatures)):
                run("self_check", lambda: _check_self(version))
                run("warm_up", lambda: _check_warm_up(version))
                run("parity", lambda: _check_parity(version, tolerance))
            version.close()
    free = not any(name == "tensorflow" or name.startswith("tensorflow.") for name in sys.modules)
    detail = "TensorFlow's Python was never imported" if free else "this process imported TensorFlow; use a fresh one"
    checks.append(Check("tensorflow_free", free, detail))
    return ValidationReport(str(directory), all(check.ok for check in checks), tuple(checks))


def _check_directory(directory: Path) -> Check:
    if not (directory / "saved_model.pb").is_file():
        return Check("directory", False, f"{directory} is no model directory: it holds no saved_model.pb")
    for name in (SCHEMA_FILE, PROBES_FILE, WARMUP_FILE):
        if not (directory / name).is_file():
            return Check("directory", False, f"{directory} lacks {name}; export it again")
    schema = load_schema(directory / SCHEMA_FILE)
    return Check("directory", True, f"schema {schema.name}, fingerprint {schema.fingerprint}")


def _check_no_xla(directory: Path) -> Check:
    content = (directory / "saved_model.pb").read_bytes()
    try:
        saved = graph_pb2.SavedModel.FromString(content)
    except Exception as error:  # noqa: BLE001  protobuf's DecodeError lives in a different place per version
        raise ValueError(f"saved_model.pb is corrupt: {error}") from error
    functions = [function for graph in saved.meta_graphs for function in graph.graph_def.library.function]
    compiled = [f.signature.name for f in functions if _must_compile(f)]
    if compiled:
        return Check("no_xla", False, f"{compiled[0]} must be compiled by XLA, which the stock server has switched off")
    return Check("no_xla", True, f"none of {len(functions)} functions asks for XLA", {"bytes": float(len(content))})


def _must_compile(function: graph_pb2.FunctionDef) -> bool:
    nodes = (node.attr[_XLA].b for node in function.node_def if _XLA in node.attr)
    return (_XLA in function.attr and function.attr[_XLA].b) or any(nodes)


def _check_loads(directory: Path, loaded: list[LoadedVersion]) -> Check:
    loaded.append(LoadedVersion(directory))
    return Check("loads", True, "the C++ runtime loads it")


def _check_signatures(schema: FeatureSchema, found: dict[str, Signature]) -> Check:
    faults = []
    expected = expected_signatures(schema)
    faults += [f"signature {name} is missing" for name in sorted(set(expected) - set(found))]
    faults += [f"signature {name} is not in the contract" for name in sorted(set(found) - set(expected))]
    for name in sorted(set(expected) & set(found)):
        faults += _signature_faults(name, expected[name], found[name])
    detail = "; ".join(faults) or f"{', '.join(sorted(expected))} as the contract has them"
    return Check("signatures", not faults, detail)


def _signature_faults(name: str, expected: SignatureContract, found: Signature) -> list[str]:
    faults = []
    sides = (("input", expected.inputs, found.inputs), ("output", expected.outputs, found.outputs))
    for side, contracts, tensors in sides:
        faults += [f"{name} lacks the {side} {key}" for key in sorted(set(contracts) - set(tensors))]
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


def _check_self(version: LoadedVersion) -> Check:
    outputs = version.session.run("self_check", {"probe": np.array([WHOLE_TABLE], np.int32)})
    largest, checked = float(outputs["disagreement"].max()), int(outputs["checked"].max())
    figures = {"largest_disagreement": largest, "rows": float(checked)}
    detail = f"{checked} rows of the projection table agree with the live weights (largest difference {largest:.3g})"
    return Check("self_check", checked > 0, detail, figures)


def _check_warm_up(version: LoadedVersion) -> Check:
    count = version.warm_up()
    return Check("warm_up", count > 0, f"{count} warm-up requests answered", {"requests": float(count)})


def _check_parity(version: LoadedVersion, tolerance: float) -> Check:
    with np.load(version.version_dir / PROBES_FILE, allow_pickle=False) as file:
        inputs = {name.removeprefix("input/"): file[name] for name in file.files if name.startswith("input/")}
        expected = file["expected/probability"]
    differing = largest = 0.0
    compared = 0
    faults: list[str] = []
    if not len(expected):
        faults.append("there is no probe")
    for start in range(0, len(expected), _ROWS_A_CALL):
        batch = _trimmed({name: array[start : start + _ROWS_A_CALL] for name, array in inputs.items()})
        served = version.session.run(DEFAULT_SIGNATURE, batch, ["probability"])["probability"]
        width = batch["candidate_item"].shape[1]
        if served.shape != (len(batch["candidate_item"]), width):
            faults.append(f"probability has shape {list(served.shape)} for candidate_item of {width} columns")
            break
        real = np.arange(width) < batch["candidate_count"][:, np.newaxis]
        values = served[real].astype(np.float64)
        if not (np.isfinite(values).all() and values.min(initial=0.0) >= 0 and values.max(initial=0.0) <= 1):
            faults.append(f"probes {start} to {start + len(served) - 1} give values that are no probabilities")
        if np.any(served[~real] != 0):
            faults.append(f"probes {start} to {start + len(served) - 1} score padding other than 0")
        difference = np.abs(values - expected[start : start + _ROWS_A_CALL, :width][real])
        largest = max(largest, float(np.nan_to_num(difference, nan=1.0).max(initial=0.0)))
        differing += float(np.sum(~(difference <= tolerance)))
        compared += len(values)
    if differing:
        faults.append(
            f"{differing:g} of {compared} served probabilities differ from the trainer's by more than {tolerance:g}"
        )
    detail = "; ".join(faults) or f"{compared} probabilities of {len(expected)} requests equal the trainer's"
    figures = {"served_minus_trained_max": largest, "requests": float(len(expected)), "probabilities": float(compared)}
    return Check("parity", not faults, f"{detail} (largest difference {largest:.3g})", figures)


def _trimmed(batch: dict[str, Array]) -> dict[str, Array]:
    """Cuts a batch to its longest history and its most candidates, as a client would send it."""
    length = max(1, int(batch["history_length"].max()))
    count = max(1, int(batch["candidate_count"].max()))
    widths = {name: length for name, a in batch.items() if name.startswith("history_") and a.ndim == 2}
    widths["candidate_item"] = count
    return {name: array[:, : widths[name]] if name in widths else array for name, array in batch.items()}


@click.command()
@click.argument("version_dir")
@click.option("--tolerance", default=TOLERANCE, show_default=True, help="Largest difference from the trainer's scores.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def main(version_dir: str, tolerance: float, as_json: bool) -> None:
    """Says whether VERSION_DIR is fit to be published: exit 0 if it is, 1 with the reason if not."""
    report = validate(version_dir, tolerance=tolerance)
    if as_json:
        click.echo(json.dumps(report.to_plain(), indent=2))
    else:
        for check in report.checks:
            click.echo(f"{'ok  ' if check.ok else 'FAIL'}  {check.name:<16}{check.detail}")
    if not report.ok:
        click.echo(f"Error: {version_dir} is not fit to be published: {report.reason()}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
