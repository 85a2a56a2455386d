"""Publishing: a validated copy of a model directory appears under the base path at once, or not at all.

A server notices a version by its directory's name alone, so the copy is made under a hidden name on the same file
system, flushed to disk, validated there (what is checked is what is served) and renamed to its number.

Example:
    >>> publish("runs/demo/export/1700000000", "models/twin")
    PosixPath('models/twin/1700000123')
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from export.local_server import child_environment
from export.version_manager import version_numbers

KEPT = 3
_LOCK = ".publish.lock"
_INCOMING = ".incoming-"
_OUTGOING = ".outgoing-"


class PublishError(ValueError):
    """A version that was not published; the message is one sentence that says why."""


def publish(version_dir: str | Path, base_path: str | Path, *, keep: int = KEPT) -> Path:
    """Validates a model directory and publishes it as the newest version.

    Args:
        version_dir: what the exporter wrote; it stays where it is.
        base_path: the directory a server watches; made if it does not exist.
        keep: how many versions stay, the new one included; older ones are removed.

    Returns:
        The new version's directory, `<base_path>/<UTC seconds>`, newer than every other there.

    Raises:
        PublishError: the directory is unfit, or another publisher is at work; the base path is as it was.
        ValueError: `keep` is less than 1.
    """
    source, base = Path(version_dir), Path(base_path)
    if keep < 1:
        raise ValueError(f"keep must be at least 1, not {keep}: the new version itself stays")
    if not (source / "saved_model.pb").is_file():
        raise PublishError(f"{source} is no model directory: it holds no saved_model.pb")
    base.mkdir(parents=True, exist_ok=True)
    with _only_publisher(base):
        _sweep(base)
        incoming = base / f"{_INCOMING}{os.getpid()}"
        try:
            shutil.copytree(source, incoming)
            _flush(incoming)
            reason = validate_apart(incoming)
            if reason:
                raise PublishError(f"{source} is not published: {reason.replace(str(incoming), str(source))}")
            number = max([int(time.time()), *(n + 1 for n in version_numbers(base))])
            published = base / str(number)
            incoming.rename(published)
            _flush_directory(base)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
        for old in version_numbers(base)[:-keep]:
            _remove(base, old)
    return published


def validate_apart(version_dir: str | Path) -> str:
    """Runs `export.validate` in a process of its own.

    Returns:
        Why the directory is unfit; empty if it is fit.
    """
    command = [sys.executable, "-m", "export.validate", str(version_dir), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=child_environment(), check=False)
    try:
        report = json.loads(done.stdout)
    except json.JSONDecodeError:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return f"validation broke down: {lines[-1]}"
    if done.returncode == 0 and report["ok"]:
        return ""
    return "; ".join(f"{check['name']}: {check['detail']}" for check in report["checks"] if not check["ok"])


@contextlib.contextmanager
def _only_publisher(base: Path) -> Iterator[None]:
    """Holds the lock; the kernel lets go of it even when the process is killed."""
    with (base / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PublishError(f"another publisher is at work in {base}; try again when it has finished") from error
        yield


def _sweep(base: Path) -> None:
    """Removes what a killed publisher left; only the lock's holder may."""
    for path in base.iterdir():
        if re.match(rf"{re.escape(_INCOMING)}|{re.escape(_OUTGOING)}", path.name):
            shutil.rmtree(path)


def _remove(base: Path, number: int) -> None:
    """Hides a version first, so that a server never sees half of one."""
    outgoing = base / f"{_OUTGOING}{number}"
    (base / str(number)).rename(outgoing)
    shutil.rmtree(outgoing)


def _flush(directory: Path) -> None:
    for folder, _, files in os.walk(directory):
        for name in files:
            with (Path(folder) / name).open("rb") as file:
                os.fsync(file.fileno())
        _flush_directory(Path(folder))


def _flush_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
