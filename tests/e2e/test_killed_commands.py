"""`make test-faults`: kill -9 at 20 random times of every command that writes; called again it ends as if unharmed.

Everything that lies in the output is compared with an uninterrupted command's, but for what says when or where it was
made (`TIMES`), logs for TensorBoard, and locks. `fingerprint.pb` is random, and with it the size of a model. Of a
model's variables every value is compared but the two versions.
"""

import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from export.contract.file_manifest import fault
from export.session.child_process import child_environment
from tests.beam_pipelines.public_files import as_shipped, movielens_1m
from tests.golden.make_golden import CONFIG, unpack
from twin_tf.core.keras_api import tf

pytestmark = [pytest.mark.integration, pytest.mark.faults]

KILLS = int(os.environ.get("TWIN_KILLS", "20"))
TIMES = {
    "bytes", "commit", "created", "examples_per_s", "files", "made", "path", "peak_rss_mb", "prepared", "published",
    "run", "seconds", "sha256", "table_version", "train_seconds", "weights_version",
}  # fmt: skip
LEFT_OUT = {".lock", ".publish.lock", "fingerprint.pb", "files.json", "report.md", "said"}
SMALL = ("--set", "training.epochs=1")


class Case(NamedTuple):
    """A command that writes.

    Attributes:
        arguments: of `twin-tf`, from the directory that it writes into and that of the golden files.
        before: what lies there before it begins.
    """

    arguments: Callable[[Path, Path], list[Any]]
    before: Callable[[Path, Path], object] = lambda out, golden: None


def _logs(golden: Path) -> list[Any]:
    return [part for log in ("events", "items", "users") for part in (f"--{log}", golden / f"raw/{log}.parquet")]


def _run(golden: Path) -> list[Any]:
    return ["--run", golden / "run", "--prepared", golden / "prepared"]


def _published(out: Path, golden: Path) -> None:
    for version in ("1700000000", "1700000001"):
        shutil.copytree(golden / "published", out / "base" / version)


CASES = {
    "simulate": Case(lambda out, _: ["simulate", "--output", out / "raw", "--users", 30, "--seed", 5]),
    "import": Case(
        lambda out, g: ["import", "movielens-1m", "--source", g / "movielens_1m.zip", "--output", out / "raw"]
    ),
    "preprocess": Case(
        lambda out, g: ["preprocess", "--config", CONFIG, *_logs(g), "--output", out / "prepared", "--shards", 2]
    ),
    "cluster": Case(
        lambda out, g: [
            "cluster", "--config", CONFIG, *_run(g), "--output", out / "clustered",
        ]
    ),
    "item-embeddings": Case(
        lambda out, g: ["item-embeddings", "--prepared", g / "prepared", "--output", out / "embeddings", "--width", 8]
    ),
    "train": Case(
        lambda out, g: ["train", "--config", CONFIG, *SMALL, "--prepared", g / "prepared", "--run", out / "run"]
    ),
    "export": Case(lambda out, g: ["export", *_run(g), "--output", out / "model"]),
    "publish": Case(lambda out, g: ["publish", g / "model", "--base-path", out / "base"]),
    "refresh": Case(lambda out, g: ["refresh", *_run(g), "--base-path", out / "base"], _published),
    "rollback": Case(lambda out, g: ["rollback", "--base-path", out / "base"], _published),
}  # fmt: skip


class Commands:
    """Starts commands and waits for them, through `forked_commands`."""

    def __init__(self, directory: Path) -> None:
        self._said = directory / "said"
        script = Path(__file__).with_name("forked_commands.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=directory, env=child_environment(),
        )  # fmt: skip

    def start(self, arguments: list[Any]) -> int:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(part) for part in arguments]) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def end(self, child: int) -> int:
        assert self._process.stdout is not None
        number, _, status = self._process.stdout.readline().split()
        assert int(number) == child
        return int(status)

    def said(self) -> str:
        return self._said.read_text(errors="replace")

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    found = Commands(tmp_path_factory.mktemp("commands"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def golden(tmp_path_factory, commands):
    """The golden files, with an export of today's code as `model`, as it looks when published, and a small download."""
    root = tmp_path_factory.mktemp("golden")
    unpack(root)
    as_shipped("movielens_1m", root, movielens_1m(rows=20_000))
    shutil.rmtree(root / "model")
    for arguments in (
        ["export", *_run(root), "--output", root / "model"],
        ["publish", root / "model", "--base-path", root / "base"],
    ):
        assert commands.end(commands.start(arguments)) == 0, commands.said()
    (version,) = (path for path in (root / "base").iterdir() if path.name.isdigit())
    version.rename(root / "published")
    return root


@pytest.mark.parametrize("name", CASES)
def test_a_killed_command_run_again_ends_as_if_nothing_had_been(name, commands, golden, tmp_path):
    case, generator = CASES[name], random.Random(name)

    def begun(directory):
        directory.mkdir()
        case.before(directory, golden)
        return commands.start(case.arguments(directory, golden))

    started = time.monotonic()
    assert commands.end(begun(tmp_path / "whole")) == 0, commands.said()
    whole = time.monotonic() - started
    wanted = contents(tmp_path / "whole")
    assert wanted
    killed = 0
    for kill in range(KILLS):
        out = tmp_path / str(kill)
        child = begun(out)
        time.sleep(generator.uniform(0, whole))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        killed += commands.end(child) == -signal.SIGKILL
        if contents(out) != wanted:
            ended = commands.end(commands.start(case.arguments(out, golden)))
            assert ended == 0, f"kill {kill}: {commands.said()}"
            assert contents(out) == wanted, f"kill {kill}: {difference(contents(out), wanted)}"
        shutil.rmtree(out)
    print(f"{name}: {killed} of {KILLS} were killed before they ended; {whole:.1f} s without a kill")
    assert killed > KILLS / 4


def contents(directory: Path) -> dict[str, Any]:
    """What lies in a directory, by name; directories of versions are named by their order."""
    versions = sorted({part for path in directory.rglob("*") for part in path.parts if re.fullmatch(r"1\d{9}", part)})
    found = {}
    for path in sorted(directory.rglob("*")):
        if not path.is_file() or path.name in LEFT_OUT or "tensorboard" in path.parts:
            continue
        parts = [
            f"version {versions.index(part)}" if part in versions else part
            for part in path.relative_to(directory).parts
        ]
        found["/".join(parts)] = _content(path)
        if path.name == "saved_model.pb":
            assert fault(path.parent) == ""
    return found


def _content(path: Path) -> Any:
    if path.suffix == ".json":
        with contextlib.suppress(ValueError):
            return _untimed(json.loads(path.read_text()))
    if path.suffix == ".index":
        with contextlib.suppress(tf.errors.OpError):
            reader = tf.train.load_checkpoint(str(path.with_suffix("")))
            return {
                name: hashlib.sha256(np.asarray(reader.get_tensor(name)).tobytes()).hexdigest()
                for name in reader.get_variable_to_shape_map()
                if "version" not in name and "OBJECT_GRAPH" not in name
            }
    if ".data-" in path.name or path.name in ("checkpoint", "tf_serving_warmup_requests"):
        return "there"
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return {name: hashlib.sha256(arrays[name].tobytes()).hexdigest() for name in arrays.files}
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _untimed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _untimed(one) for name, one in value.items() if name not in TIMES}
    return [_untimed(one) for one in value] if isinstance(value, list) else value


def difference(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """The first few names that differ."""
    names = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
    return "; ".join(
        f"{name}: {str(found.get(name))[:300]} instead of {str(wanted.get(name))[:300]}" for name in names[:4]
    )
