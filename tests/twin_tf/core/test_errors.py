"""Whose mistake an error is, is said by its class: the command line asks that alone."""

import ast
import builtins
import errno
import json
from pathlib import Path

import click
import pyarrow as pa
import pytest
from click.testing import CliRunner

from export.contract.errors import DataLossError, UnavailableError, error_for
from export.publishing.version_store import PublishError
from twin_tf.cli.main import main
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.errors import UserError, is_users
from twin_tf.core.tfrecord import CorruptRecordError
from twin_tf.experiments.subprocess_runner import StepFailedError
from twin_tf.runs.checkpoints import DamagedCheckpointError

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[3]
PACKAGES = ("twin_tf", "export", "beam_pipelines")

NO_USER_ERRORS = {
    "CommandFailedError": "how click itself ends a command with a sentence and exit code 1",
    "JobOnlyBuilt": "nothing is wrong: the job was built and, as its options say, not run",
    "RenamedSettingWarning": "a warning, not an error",
    "UncheckedFilesWarning": "a warning, not an error",
    "UnseenBehavioursWarning": "a warning, not an error",
    "_RefusedError": "how our reader of YAML ends inside of PyYAML; `parse_yaml` makes a ConfigError of it",
}
"""The exception classes that are no `UserError`, and why."""


def bases_by_class():
    """Every class of the packages: its bases' names, without the modules before them."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    names = {ast.unparse(base).partition("[")[0].rpartition(".")[2] for base in node.bases}
                    found.setdefault(node.name, set()).update(names)
    return found


def ancestors(name, bases):
    return {name}.union(*(ancestors(base, bases) for base in bases.get(name, ())))


def is_exception(name):
    known = getattr(builtins, name, None)
    named_so = name.endswith(("Error", "Exception", "Warning", "Exit", "Interrupt"))
    return named_so or (isinstance(known, type) and issubclass(known, BaseException))


def test_every_exception_of_the_project_says_whose_mistake_it_is():
    bases = bases_by_class()
    exceptions = {name for name in bases if any(map(is_exception, ancestors(name, bases)))}
    assert exceptions > {"ConfigError", "InvalidArgumentError", "PipelineStoppedError", *NO_USER_ERRORS}
    assert {name for name in exceptions if "UserError" not in ancestors(name, bases)} == set(NO_USER_ERRORS)


def test_a_user_s_error_stays_what_else_it_is():
    assert issubclass(ConfigError, ValueError) and issubclass(PublishError, ValueError)
    assert issubclass(CorruptRecordError, ValueError) and not issubclass(DamagedCheckpointError, ValueError)
    assert all(issubclass(type(error_for(code, "")), RuntimeError) for code in range(1, 17))
    failed = StepFailedError("train", "no data")
    assert isinstance(failed, ChildProcessError) and str(failed) == "the step 'train' failed: no data"


FULL = RuntimeError("INTERNAL: /data/ckpt-1: No space left on device")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ConfigError("epochs 0"), 2, "epochs 0"),
        (UserError("no such run"), 1, "no such run"),
        (PublishError("not published"), 1, "not published"),
        (DamagedCheckpointError("ckpt-1 has been changed"), 1, "ckpt-1 has been changed"),
        (CorruptRecordError("a is cut short"), 1, "a is cut short"),
        (StepFailedError("train", "no data"), 1, "the step 'train' failed: no data"),
        (UnavailableError("no server at 127.0.0.1:9"), 1, "no server at 127.0.0.1:9"),
        (DataLossError("the answer cannot be read"), 1, "the answer cannot be read"),
        (ValueError("timeout_s must be positive"), 1, "timeout_s must be positive"),
        (FloatingPointError("a weight is no longer finite"), 1, "a weight is no longer finite"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a.csv"), 1, "[Errno 2] No such file: 'a.csv'"),
        (PermissionError(errno.EACCES, "denied", "a.csv"), 1, "[Errno 13] denied: 'a.csv'"),
        (ConnectionError("the cluster cannot go on"), 1, "the cluster cannot go on"),
        (TimeoutError("no server within 5 s"), 1, "no server within 5 s"),
        (OSError(errno.ENOSPC, "No space left on device", "/data/a"), 1, "the disk is full: /data/a cannot be written"),
        (FULL, 1, "the disk is full: /data/ckpt-1 cannot be written"),
        (click.UsageError("give either"), 2, "give either"),
    ],
)  # fmt: skip
def test_what_the_user_can_mend_is_one_sentence(monkeypatch, error, code, said):
    result = raised(monkeypatch, error)
    assert isinstance(result.exception, SystemExit) and result.exit_code == code
    assert result.stderr.splitlines()[-1].startswith(f"Error: {said}")
    shown = json.loads(result.stdout)
    assert shown["exit_code"] == code and shown["error"].startswith(said)


@pytest.mark.parametrize(
    "error",
    [
        KeyError("inner"),
        TypeError("no such argument"),
        RuntimeError("never"),
        AssertionError("never"),
        ImportError("no module"),
        MemoryError(),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        json.JSONDecodeError("Expecting value", "", 0),
        pa.ArrowInvalid("column 1"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_fault_of_ours_shows_whole(monkeypatch, error):
    assert raised(monkeypatch, error).exception is error
    assert not is_users(error)


def raised(monkeypatch, error):
    """What `twin-tf` says when the work of a command ends with an error."""

    def failing(*_, **__):
        raise error

    monkeypatch.setattr("export.gate.validate.validate", failing)
    return CliRunner().invoke(main, ["validate", "x", "--json"])
