"""The gate: is this model directory fit to be published? Loaded as the server loads it, without TensorFlow's Python.

    python -m export.gate.validate models/1700000000 --json
    python -m export.gate.validate models/1700000000 --base-path serving/twin

Checks, in order: the directory and its schema; every file as it was exported, its contract that of the weights; its
size; no XLA-only function; only operations of the stock server image; a server of the release in use runs the graph; it
loads in the C++ runtime; exactly the contract's signatures; versions as its files say; `self_check` passes; the warm-up
requests pass; enough probes; served probabilities equal the trainer's on the probes; the other signatures too, and over
values of every table; every item is found in its row, and lies where it was exported; every number of the weights is
finite; where an evaluation against another run is named, it does not show the model to be worse; and, where a base path
is named, the contract is that of the version published last, and the AUC not below its.
What is not as it was exported is not loaded.

A check that cannot be made fails, unless it is allowed by name: `--allow-unchecked auc`.
"""

import dataclasses
import json
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from export.contract.base_image import fill, image_of_base
from export.contract.errors import ServingError
from export.contract.file_manifest import EXPORT, EXTRA, read_description
from export.contract.probe_file import PROBES_FILE, Probes, load_probe_file
from export.contract.signatures import WHOLE_TABLE
from export.contract.tensors import Array
from export.gate import auc_check
from export.gate.answer_checks import (
    check_catalogue,
    check_labels,
    check_lookup,
    check_probes,
    check_values,
    check_weights,
)
from export.gate.check import Check, first_faults
from export.gate.evaluation_check import check_evaluation
from export.gate.limits import Limits, limit_options
from export.gate.op_allowlist import operation_names, refused_operations
from export.gate.provenance import (
    check_content,
    check_contract,
    check_served_digests,
    check_server,
    check_versions,
    other_versions,
)
from export.gate.signature_check import check_signatures
from export.protos import graph_pb2
from export.session.loaded_version import WARMUP_FILE, LoadedVersion
from export.session.served_scores import served_scores
from twin_tf.core.buckets import BucketPath, is_url
from twin_tf.core.mirrors import at_hand, file_at_hand, named
from twin_tf.features.schema import FeatureSchema, load_schema

SCHEMA_FILE = f"{EXTRA}/schema.yaml"
GRAPH_LIMIT = 2 << 30
"""No protocol buffer may be larger: a graph that is must hold a table as a constant."""
_XLA = "_XlaMustCompile"
_DAMAGED = (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile, zlib.error)
"""What a file raises whose content is not what it should be."""


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


def validate(
    version_dir: str | Path, *, base_path: str | Path | None = None, limits: Limits | None = None
) -> ValidationReport:
    """Runs every check on a model directory.

    Args:
        version_dir: the directory with `saved_model.pb`, local or in a bucket, as the base path may be.
        base_path: holds the published versions; the newest that loads is what the AUC is compared with. None leaves
            the comparison out.
        limits: what is tolerated; the defaults of `Limits` if left out.

    Returns:
        The report; a directory that is unfit is reported, not raised.
    """
    directory, base = _at_hand(version_dir, base_path)
    gate = _Gate(directory, limits or Limits())
    gate.run(base)
    free = not any(name == "tensorflow" or name.startswith("tensorflow.") for name in sys.modules)
    detail = "TensorFlow's Python was never imported" if free else "this process imported TensorFlow; use a fresh one"
    checks = (*gate.checks, Check("tensorflow_free", free, detail))
    return ValidationReport(str(version_dir), all(check.ok for check in checks), checks)


def _at_hand(version_dir: str | Path, base_path: str | Path | None) -> tuple[Path, Path | None]:
    """Both as local directories: of a base path in a bucket the newest version but the one that is checked is whole."""
    if base_path is None or not is_url(base_path):
        return at_hand(version_dir), None if base_path is None else Path(base_path)
    base, name = BucketPath.of(base_path), str(version_dir).rstrip("/").rpartition("/")[2]
    image = image_of_base(base)
    inside = str(version_dir).rstrip("/") == f"{base}/{name}"
    directory = image / name if inside else at_hand(version_dir)
    for number in [*([name] if inside else ()), *other_versions(directory, image)[:1]]:
        fill(image / str(number))
    return directory, image


class _Gate:
    """Runs the checks; what a later one needs of an earlier one is kept."""

    def __init__(self, directory: Path, limits: Limits) -> None:
        self.checks: list[Check] = []
        self._directory = directory
        self._limits = limits
        self._saved = graph_pb2.SavedModel()
        self._graphs: list[graph_pb2.GraphDef] = []
        self._said: dict[str, Array] = {}
        self._scores: Array | None = None

    def run(self, base_path: Path | None) -> None:
        """Runs all checks, each only where those before it let it."""
        directory, limits = self._directory, self._limits
        sound = self._try("directory", lambda: _check_directory(directory))
        if not sound:
            return
        sound = self._try("content", lambda: check_content(directory))
        sound = sound and self._try("size", lambda: _check_size(directory, limits.max_bytes))
        sound = sound and self._try("no_xla", self._check_no_xla)
        sound = sound and self._try("operations", self._check_operations)
        if not (sound and self._try("server", lambda: check_server(self._saved, limits.server_version))):
            return
        loaded: list[LoadedVersion] = []
        if not self._try("loads", lambda: _check_loads(directory, loaded)):
            return
        answers = False
        with loaded[0].session:
            schema, found = load_schema(directory / SCHEMA_FILE), loaded[0].session.signatures
            if self._try("signatures", lambda: check_signatures(schema, found, earlier=_is_earlier_graph(directory))):
                answers = self._check_answers(loaded[0], schema)
        # The new one is unloaded: never two models in memory.
        self._try("catalogue", lambda: check_catalogue(directory))
        self._try("weights", lambda: check_weights(directory))
        self._try("labels", lambda: check_labels(directory, limits.allow_one_class))
        if (evaluation := limits.evaluation) is not None:
            self._try("evaluation", lambda: check_evaluation(directory, file_at_hand(evaluation), base_path))
        if base_path is not None:
            self._check_against(base_path, answers)

    def _check_answers(self, version: LoadedVersion, schema: FeatureSchema) -> bool:
        self._try("self_check", lambda: self._check_self(version))
        if self._said:
            self._try("versions", lambda: check_versions(self._directory, self._said))
        self._try("warm_up", lambda: _check_warm_up(version))
        probes: list[Probes] = []

        def enough() -> Check:
            found = load_probe_file(self._directory)
            check = check_probes(self._directory, found)  # raises what no later check could read
            probes.append(found)
            return check

        self._try("probes", enough)
        if not probes:
            return False
        parity = self._try("parity", lambda: self._check_parity(version, probes[0]))
        self._try("values", lambda: check_values(version, probes[0], self._limits.tolerance))
        self._try("lookup", lambda: check_lookup(version, schema))
        return parity

    def _check_against(self, base_path: Path, answers: bool) -> None:
        """Whether it may take the place of what is published."""
        directory, limits = self._directory, self._limits
        alike = False

        def contract() -> Check:
            nonlocal alike
            check, alike = check_contract(directory, base_path, limits.allow_new_contract)
            return check

        if not (self._try("contract", contract) and answers):
            return
        if not alike:
            detail = "not compared with a version of another contract, as --allow-new-contract allows"
            self.checks.append(Check("auc", True, detail))
        elif self._scores is not None:
            scores = self._scores
            self._try("auc", lambda: auc_check.check_auc(directory, scores, base_path, limits.auc_epsilon))

    def _try(self, name: str, check: Callable[[], Check]) -> bool:
        try:
            found = check()
        except ServingError as error:
            found = Check(name, False, error.sentence)
        except _DAMAGED as error:
            found = Check(name, False, str(error).split("\n", 1)[0])
        if found.unchecked:
            allowed = name in self._limits.allow_unchecked
            hint = "as --allow-unchecked allows" if allowed else f"--allow-unchecked {name} lets it pass"
            found = dataclasses.replace(found, ok=allowed, detail=f"{found.detail}; {hint}")
        self.checks.append(dataclasses.replace(found, detail=named(found.detail)))
        return found.ok

    def _check_no_xla(self) -> Check:
        content = (self._directory / "saved_model.pb").read_bytes()
        try:
            saved = graph_pb2.SavedModel.FromString(content)
        except Exception as error:  # noqa: BLE001  protobuf's DecodeError lives in a different place per version
            raise ValueError(f"saved_model.pb is corrupt: {error}") from error
        self._saved = saved
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

    def _check_self(self, version: LoadedVersion) -> Check:
        outputs = self._said = version.session.run("self_check", {"probe": np.array([WHOLE_TABLE], np.int32)})
        largest, checked = float(outputs["disagreement"].max()), int(outputs["checked"].max())
        figures = {"largest_disagreement": largest, "rows": float(checked)}
        faults = check_served_digests(self._directory, outputs)
        if not (checked > 0 and np.isfinite(largest)):
            faults.append(f"{checked} rows were checked, the largest difference is {largest:.3g}")
        sound = f"{checked} rows of the projection table agree with the live weights (largest difference {largest:.3g})"
        return first_faults("self_check", faults, sound, figures)

    def _check_parity(self, version: LoadedVersion, probes: Probes) -> Check:
        check, self._scores = _compare_with_trainer(version, probes, self._limits.tolerance)
        return check


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


def _is_earlier_graph(directory: Path) -> bool:
    """Whether the graph was traced before there were digests, or taken over from such a model by a refresh."""
    return not (directory / EXPORT).is_file() or "max_candidates" not in read_description(directory)


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
    words = {True: "ok  ", False: "FAIL"}
    return "\n".join(
        f"{'skip' if check.ok and check.unchecked else words[check.ok]}  {check.name:<16}{check.detail}"
        for check in report.checks
    )


@click.command()
@click.argument("version_dir")
@click.option("--base-path", help="Compare the AUC with the newest version published here.")
@limit_options
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def main(version_dir: str, base_path: str | None, limits: Limits, as_json: bool) -> None:
    """Says whether VERSION_DIR is fit to be published: exit 0 if it is, 1 with the reason if not."""
    report = validate(version_dir, base_path=base_path, limits=limits)
    click.echo(json.dumps(report.to_plain(), indent=2) if as_json else as_lines(report))
    if not report.ok:
        click.echo(f"Error: {version_dir} is not fit to be published: {report.reason()}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
