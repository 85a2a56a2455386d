"""The gate: is this model directory fit to be published? Loaded as the server loads it, without TensorFlow's Python.

    python -m export.gate.validate models/1700000000 --json
    python -m export.gate.validate models/1700000000 --base-path serving/twin

Checks, in order: the directory and its schema; its size; no XLA-only function; only operations of the stock server
image; it loads in the C++ runtime; exactly the contract's signatures; `self_check` passes; the warm-up requests pass;
served probabilities equal the trainer's on the probes; and, where a base path is named, the AUC is not below that of
the version published last.
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

from export.contract.errors import ServingError
from export.contract.probe_file import PROBES_FILE, Probes, load_probe_file
from export.contract.signatures import (
    ADJUSTED,
    WHOLE_TABLE,
    SignatureContract,
    TensorContract,
    expected_signatures,
    without_adjusted,
)
from export.contract.tensors import Array
from export.contract.version_layout import version_numbers
from export.gate import auc_check
from export.gate.op_allowlist import operation_names, refused_operations
from export.protos import graph_pb2
from export.session.cpp_session import Signature, TensorSpecification
from export.session.loaded_version import WARMUP_FILE, LoadedVersion
from export.session.served_scores import served_scores
from twin_tf.features.schema import FeatureSchema, load_schema

EXTRA = "assets.extra"
SCHEMA_FILE = f"{EXTRA}/schema.yaml"
TOLERANCE = 1e-5
MAX_BYTES = 64 << 30
"""Default budget of a directory: about what a server with 64 GB holds of one version while it swaps two."""
GRAPH_LIMIT = 2 << 30
"""No protocol buffer may be larger: a graph that is must hold a table as a constant."""
_XLA = "_XlaMustCompile"


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


@dataclasses.dataclass(frozen=True)
class Limits:
    """What the gate tolerates.

    Attributes:
        tolerance: the largest difference between a served probability and the trainer's.
        max_bytes: the largest size of the directory.
        auc_epsilon: how far the AUC may fall below that of the version published last; a loss of up to 0.01 that
            chance explains passes too, see `auc_check.Comparison.worse`.
    """

    tolerance: float = TOLERANCE
    max_bytes: int = MAX_BYTES
    auc_epsilon: float = auc_check.EPSILON


def validate(
    version_dir: str | Path, *, base_path: str | Path | None = None, limits: Limits | None = None
) -> ValidationReport:
    """Runs every check on a model directory.

    Args:
        version_dir: the directory with `saved_model.pb`.
        base_path: holds the published versions; the newest that loads is what the AUC is compared with. None leaves
            the comparison out.
        limits: what is tolerated; the defaults of `Limits` if left out.

    Returns:
        The report; a directory that is unfit is reported, not raised.
    """
    gate = _Gate(Path(version_dir), limits or Limits())
    gate.run(None if base_path is None else Path(base_path))
    free = not any(name == "tensorflow" or name.startswith("tensorflow.") for name in sys.modules)
    detail = "TensorFlow's Python was never imported" if free else "this process imported TensorFlow; use a fresh one"
    checks = (*gate.checks, Check("tensorflow_free", free, detail))
    return ValidationReport(str(version_dir), all(check.ok for check in checks), checks)


class _Gate:
    """Runs the checks; what a later one needs of an earlier one is kept."""

    def __init__(self, directory: Path, limits: Limits) -> None:
        self.checks: list[Check] = []
        self._directory = directory
        self._limits = limits
        self._graphs: list[graph_pb2.GraphDef] = []
        self._scores: Array | None = None

    def run(self, base_path: Path | None) -> None:
        """Runs all checks, each only where those before it let it."""
        directory, limits = self._directory, self._limits
        sound = self._try("directory", lambda: _check_directory(directory))
        sound = sound and self._try("size", lambda: _check_size(directory, limits.max_bytes))
        sound = sound and self._try("no_xla", self._check_no_xla)
        if not (sound and self._try("operations", self._check_operations)):
            return
        loaded: list[LoadedVersion] = []
        if not self._try("loads", lambda: _check_loads(directory, loaded)):
            return
        answers = False
        with loaded[0].session:
            schema = load_schema(directory / SCHEMA_FILE)
            if self._try("signatures", lambda: _check_signatures(directory, schema, loaded[0].session.signatures)):
                self._try("self_check", lambda: _check_self(loaded[0]))
                self._try("warm_up", lambda: _check_warm_up(loaded[0]))
                answers = self._try("parity", lambda: self._check_parity(loaded[0]))
        if answers and base_path is not None:  # the new one is unloaded: never two models in memory
            self._try("auc", lambda: self._check_auc(base_path))

    def _try(self, name: str, check: Callable[[], Check]) -> bool:
        try:
            self.checks.append(check())
        except ServingError as error:
            self.checks.append(Check(name, False, error.sentence))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            self.checks.append(Check(name, False, str(error).split("\n", 1)[0]))
        return self.checks[-1].ok

    def _check_no_xla(self) -> Check:
        content = (self._directory / "saved_model.pb").read_bytes()
        try:
            saved = graph_pb2.SavedModel.FromString(content)
        except Exception as error:  # noqa: BLE001  protobuf's DecodeError lives in a different place per version
            raise ValueError(f"saved_model.pb is corrupt: {error}") from error
        self._graphs = [graph.graph_def for graph in saved.meta_graphs]
        functions = [function for graph in self._graphs for function in graph.library.function]
        compiled = [f.signature.name for f in functions if _must_compile(f)]
        if compiled:
            return Check(
                "no_xla", False, f"{compiled[0]} must be compiled by XLA, which the stock server has switched off"
            )
        return Check("no_xla", True, f"none of {len(functions)} functions asks for XLA")

    def _check_operations(self) -> Check:
        refused = [clause for graph in self._graphs for clause in refused_operations(graph)]
        count = len(set().union(*(operation_names(graph) for graph in self._graphs)))
        detail = "; ".join(refused) or f"all {count} operations are the stock image's and touch the request alone"
        return Check("operations", not refused, detail, {"operations": float(count)})

    def _check_parity(self, version: LoadedVersion) -> Check:
        probes = load_probe_file(version.version_dir)
        check, self._scores = _compare_with_trainer(version, probes, self._limits.tolerance)
        return check

    def _check_auc(self, base_path: Path) -> Check:
        probes = load_probe_file(self._directory)
        unknown = auc_check.unlabelled(probes)
        if unknown or self._scores is None:
            return Check("auc", True, f"unknown: {unknown}")
        numbers = version_numbers(base_path) if base_path.is_dir() else []
        label = probes.expected["label"][probes.real]
        passed_over = ""
        for number in reversed(numbers):
            published = base_path / str(number)
            if published.resolve() == self._directory.resolve():
                continue
            different = auc_check.incomparable(self._directory / EXTRA, published / EXTRA)
            if different:
                return Check("auc", True, f"not compared with version {number}{passed_over}: {different}")
            scores = auc_check.published_scores(published, probes)
            if not isinstance(scores, str):
                return _check_loss(number, auc_check.compare(label, self._scores, scores), len(label), self._limits)
            passed_over += f" (version {number} does not load: {scores})"
        alone = auc_check.compare(label, self._scores, self._scores)
        return Check("auc", True, f"{alone.auc:.4f}; no version to compare it with{passed_over}", {"auc": alone.auc})


def _check_loss(number: int, found: auc_check.Comparison, targets: int, limits: Limits) -> Check:
    figures = {
        "auc": found.auc,
        "published_auc": found.published,
        "standard_error": found.standard_error,
        "targets": float(targets),
    }
    detail = (
        f"{found.auc:.4f} against {found.published:.4f} of version {number} on the same {targets} targets "
        f"(standard error of the difference {found.standard_error:.4f})"
    )
    worse = found.worse(limits.auc_epsilon)
    if worse:
        detail += f": worse by more than {limits.auc_epsilon:g}"
        detail += f" and by more than chance explains or {auc_check.MOST_BY_CHANCE:g}"
    return Check("auc", not worse, detail, figures)


def _check_directory(directory: Path) -> Check:
    if not (directory / "saved_model.pb").is_file():
        return Check("directory", False, f"{directory} is no model directory: it holds no saved_model.pb")
    for name in (SCHEMA_FILE, PROBES_FILE, WARMUP_FILE):
        if not (directory / name).is_file():
            return Check("directory", False, f"{directory} lacks {name}; export it again")
    schema = load_schema(directory / SCHEMA_FILE)
    return Check("directory", True, f"schema {schema.name}, fingerprint {schema.fingerprint}")


def _check_size(directory: Path, max_bytes: int) -> Check:
    size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    graph = (directory / "saved_model.pb").stat().st_size
    figures = {"bytes": float(size), "graph_bytes": float(graph)}
    if graph >= GRAPH_LIMIT:
        return Check("size", False, f"saved_model.pb has {graph:,} bytes; no loader reads 2 GB of graph", figures)
    if size > max_bytes:
        return Check("size", False, f"{size:,} bytes are more than the budget of {max_bytes:,}", figures)
    return Check("size", True, f"{size:,} bytes, {graph:,} of them graph", figures)


def _must_compile(function: graph_pb2.FunctionDef) -> bool:
    nodes = (node.attr[_XLA].b for node in function.node_def if _XLA in node.attr)
    return (_XLA in function.attr and function.attr[_XLA].b) or any(nodes)


def _check_loads(directory: Path, loaded: list[LoadedVersion]) -> Check:
    loaded.append(LoadedVersion(directory))
    return Check("loads", True, "the C++ runtime loads it")


def _check_signatures(directory: Path, schema: FeatureSchema, found: dict[str, Signature]) -> Check:
    faults = []
    expected, said = expected_signatures(schema), ""
    if "max_candidates" not in _description(directory):
        expected, said = without_adjusted(expected), f"; made before {ADJUSTED}: what its graph adjusts it does not say"
    faults += [f"signature {name} is missing" for name in sorted(set(expected) - set(found))]
    faults += [f"signature {name} is not in the contract" for name in sorted(set(found) - set(expected))]
    for name in sorted(set(expected) & set(found)):
        faults += _signature_faults(name, expected[name], found[name])
    detail = ("; ".join(faults) or f"{', '.join(sorted(expected))} as the contract has them") + said
    return Check("signatures", not faults, detail)


def _description(directory: Path) -> dict[str, Any]:
    """The content of `export.json`; empty where there is none, or no mapping in it."""
    path = directory / EXTRA / "export.json"
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return content if isinstance(content, dict) else {}


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


def _compare_with_trainer(version: LoadedVersion, probes: Probes, tolerance: float) -> tuple[Check, Array]:
    """The check, and the served probabilities of the real candidates."""
    expected, real = probes.expected["probability"], probes.real
    served = np.zeros(real.shape)
    faults: list[str] = []
    if not len(expected):
        faults.append("there is no probe")
    for rows, scores in served_scores(version, probes):
        width, place = scores.shape[1], f"probes {rows.start} to {rows.stop - 1}"
        if scores.ndim != 2 or scores.shape != real[rows, :width].shape or real[rows, width:].any():
            faults.append(f"probability has shape {list(scores.shape)} for {place}")
            break
        values = scores[real[rows, :width]]
        if not (np.isfinite(values).all() and values.min(initial=0.0) >= 0 and values.max(initial=0.0) <= 1):
            faults.append(f"{place} give values that are no probabilities")
        if np.any(scores[~real[rows, :width]] != 0):
            faults.append(f"{place} score padding other than 0")
        served[rows, :width] = scores
    difference = np.abs(served - expected)[real]
    largest = float(np.nan_to_num(difference, nan=1.0).max(initial=0.0))
    differing = int(np.sum(~(difference <= tolerance)))
    if differing:
        faults.append(
            f"{differing} of {real.sum()} served probabilities differ from the trainer's by more than {tolerance:g}"
        )
    detail = "; ".join(faults) or f"{real.sum()} probabilities of {len(expected)} requests equal the trainer's"
    figures = {
        "served_minus_trained_max": largest,
        "requests": float(len(expected)),
        "probabilities": float(real.sum()),
    }
    return Check("parity", not faults, f"{detail} (largest difference {largest:.3g})", figures), served[real]


def as_lines(report: ValidationReport) -> str:
    """One line a check, for people."""
    return "\n".join(f"{'ok  ' if check.ok else 'FAIL'}  {check.name:<16}{check.detail}" for check in report.checks)


def limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--tolerance`, `--max-bytes` and `--auc-epsilon`, the fields of `Limits`."""
    for name, default, text in (
        ("--auc-epsilon", auc_check.EPSILON, "How far the AUC may fall below the published version's."),
        ("--max-bytes", MAX_BYTES, "Size budget of the directory."),
        ("--tolerance", TOLERANCE, "Largest difference from the trainer's scores."),
    ):
        command = click.option(name, default=default, show_default=True, help=text)(command)
    return command


@click.command()
@click.argument("version_dir")
@click.option("--base-path", help="Compare the AUC with the newest version published here.")
@limit_options
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def main(
    version_dir: str, base_path: str | None, tolerance: float, max_bytes: int, auc_epsilon: float, as_json: bool
) -> None:
    """Says whether VERSION_DIR is fit to be published: exit 0 if it is, 1 with the reason if not."""
    report = validate(version_dir, base_path=base_path, limits=Limits(tolerance, max_bytes, auc_epsilon))
    click.echo(json.dumps(report.to_plain(), indent=2) if as_json else as_lines(report))
    if not report.ok:
        click.echo(f"Error: {version_dir} is not fit to be published: {report.reason()}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
