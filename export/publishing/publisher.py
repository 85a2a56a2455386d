"""Publishing: a validated copy of a model directory appears under the base path at once, or not at all.

A server notices a version by its directory's name alone, so the copy is made under a hidden name on the same file
system, validated there (what is checked is what is served), flushed to disk and renamed to its number. Told which
server watches the base path, the publisher waits until that server has loaded the version, and takes it back if the
server refuses it; older versions are removed only then. All that can fail is done before the rename: whatever fails
after it is said in a warning. A version of a run that was rolled back may be published: that is somebody's decision,
and the run is forgotten then (`export.publishing.rollbacks`).

Example:
    >>> publish("runs/demo/export/1700000000", "models/twin")
    PosixPath('models/twin/1700000123')
    >>> roll_back("models/twin")
    PosixPath('models/twin/1699996400')
"""

import dataclasses
import json
import logging
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from export.client.client import TwinClient
from export.contract.base_image import fill
from export.contract.errors import ServingError
from export.contract.file_manifest import fault, has_manifest, write_manifest
from export.contract.version_layout import version_numbers
from export.gate.limits import Limits
from export.publishing.bucket_base import PublishError, base_at_hand, warn
from export.publishing.rollbacks import forget, remember
from export.publishing.version_store import (
    KEPT,
    hide_version,
    only_publisher,
    prune,
    publish_version,
    staging,
    whole_versions,
)
from export.session.child_process import child_environment
from twin_tf.core.buckets import BucketPath
from twin_tf.core.mirrors import at_hand, original

_log = logging.getLogger(__name__)
_POLL_SECONDS = 0.2


@dataclasses.dataclass(frozen=True)
class ServerCheck:
    """A server that watches the base path.

    Attributes:
        address: host:port of its gRPC service.
        model_name: the name that it serves the versions under.
        timeout_s: how long it may take to load one.
        credentials: of `export.client.channel.tls_credentials`; a plain connection if None.
    """

    address: str
    model_name: str = "twin"
    timeout_s: float = 300.0
    credentials: grpc.ChannelCredentials | None = None


def publish(
    version_dir: str | Path,
    base_path: str | Path,
    *,
    keep: int = KEPT,
    limits: Limits | None = None,
    watcher: ServerCheck | None = None,
) -> Path | BucketPath:
    """Validates a model directory and publishes it as the newest version.

    Args:
        version_dir: what the exporter wrote, local or in a bucket; it stays where it is.
        base_path: the directory a server watches, local or in a bucket; made if it does not exist.
        keep: how many versions stay, the new one included; older ones are removed.
        limits: what the gate tolerates.
        watcher: the server to wait for; None trusts the gate.

    Returns:
        The new version's directory, `<base_path>/<UTC seconds>`, newer than every other there.

    Raises:
        PublishError: the directory is unfit, differs from its own `files.json`, another publisher is at work (the base
            path is as it was then), or the watcher refuses the version (it is hidden again then).
        OSError: it cannot be written, for example on a full disk; the base path is as it was.
        ValueError: `keep` is less than 2.
    """
    source = at_hand(version_dir)
    _check_keep(keep)
    if not (source / "saved_model.pb").is_file():
        raise PublishError(f"{version_dir} is no model directory: it holds no saved_model.pb")
    return publish_written(
        lambda directory: _copy(source, directory), version_dir, base_path, keep=keep, limits=limits, watcher=watcher
    )


def publish_written(
    write: Callable[[Path], None],
    name: str | Path,
    base_path: str | Path,
    *,
    keep: int = KEPT,
    limits: Limits | None = None,
    watcher: ServerCheck | None = None,
    job: str = "publish",
) -> Path | BucketPath:
    """`publish` of a version that is written where it will be renamed from, so that it need not be copied.

    Args:
        write: makes and fills the directory that it is given.
        name: what the version is called in messages.
        base_path: see `publish`; as are all other arguments, the result and the errors.
        keep: see `publish`.
        limits: see `publish`.
        watcher: see `publish`.
        job: what others that want the base path are told, see `only_publisher`.
    """
    _check_keep(keep)
    with base_at_hand(base_path, job) as base:
        base.mkdir(parents=True, exist_ok=True)
        with only_publisher(base, job), staging(base) as directory:
            write(directory)
            for number in version_numbers(base)[-1:]:
                fill(base / str(number))  # what the gate compares with
            reason = validate_apart(directory, base, limits)
            if reason:
                raise PublishError(f"{name} is not published: {reason.replace(str(directory), str(name))}")
            if not has_manifest(directory):  # exported before there were any
                write_manifest(directory)
            published = publish_version(directory, base)
            try:
                if watcher is not None:
                    _confirm(published, base, watcher)
                _forget(base, published)
            finally:
                prune(base, keep)
        return original(published)


def roll_back(base_path: str | Path, *, to: int | None = None, watcher: ServerCheck | None = None) -> Path | BucketPath:
    """Makes an earlier version the newest again, by one rename: a server loads it before it unloads the present one.

    The versions above it are hidden as `.rolled-back-<number>`, where no server looks; the newest goes last, so no
    version in between is ever the newest. Their runs are remembered in `.rolled-back.json` first: `refresh` refuses
    them until a version of a newer run, or by `publish` one of their own, is published. On a full disk the rollback is
    done all the same, with a warning that it is not remembered.

    Args:
        base_path: the directory a server watches, local or in a bucket.
        to: which version; the newest sound one below the present one if left out.
        watcher: the server to wait for; None does not wait.

    Returns:
        The directory of the version that is the newest now.

    Raises:
        PublishError: there is no sound earlier version, or another publisher is at work; the base path is as it was.
            Or the watcher does not load it; nothing is undone then.
    """
    with base_at_hand(base_path, "rollback") as base:
        return original(_roll_back(base, to, watcher))


def _roll_back(base: Path, to: int | None, watcher: ServerCheck | None) -> Path:
    if not base.is_dir():
        raise PublishError(f"{base} is no base path: there is no such directory")
    with only_publisher(base, "rollback"):
        numbers = version_numbers(base)
        earlier = numbers[:-1] if to is None else [number for number in numbers[:-1] if number == to]
        if not earlier:
            wanted = "no earlier version" if to is None else f"no earlier version {to}"
            raise PublishError(f"{base} holds {wanted} to go back to; it has {', '.join(map(str, numbers)) or 'none'}")
        target, faults = None, []
        for number in reversed(earlier):
            fill(base / str(number))
            reason = fault(base / str(number)) or validate_apart(base / str(number))
            if not reason:
                target = number
                break
            faults.append(f"version {number}: {reason}")
        if target is None:
            raise PublishError(f"{base} holds no sound earlier version; {'; '.join(faults)}")
        above = [number for number in numbers if number > target]
        _remember(base, above)
        for number in above:
            hide_version(base, number)
        if watcher is not None:
            reason = refusal(target, watcher)
            if reason:
                raise PublishError(f"{base} is back at version {target}, but {reason}")
    return base / str(target)


def validate_apart(version_dir: str | Path, base_path: str | Path | None = None, limits: Limits | None = None) -> str:
    """Runs `export.gate.validate` in a process of its own; says what it warns of and what it could not check.

    Args:
        version_dir: the model directory.
        base_path: see `validate`.
        limits: see `validate`.

    Returns:
        Why the directory is unfit; empty if it is fit.
    """
    command = [sys.executable, "-m", "export.gate.validate", str(version_dir), "--json"]
    if base_path is not None:
        command += ["--base-path", str(base_path)]
    command += (limits or Limits()).as_arguments()
    done = subprocess.run(command, capture_output=True, text=True, env=child_environment(), check=False)
    try:
        report = json.loads(done.stdout)
    except json.JSONDecodeError:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return f"validation broke down: {lines[-1]}"
    for check in report["checks"]:
        if check["ok"] and (check["unchecked"] or check["detail"].startswith("warning: ")):
            _log.warning("%s: %s", check["name"], check["detail"])
    if done.returncode == 0 and report["ok"]:
        return ""
    return "; ".join(f"{check['name']}: {check['detail']}" for check in report["checks"] if not check["ok"])


def _check_keep(keep: int) -> None:
    if keep < 2:
        raise ValueError(f"keep must be at least 2, not {keep}: the new version, and the one to go back to")


def _copy(source: Path, directory: Path) -> None:
    """Copies a model directory; one that was published before must still be what it was."""
    shutil.copytree(source, directory)
    wrong = fault(directory) if has_manifest(directory) else ""
    if wrong:
        raise PublishError(f"{source} is not published: {wrong}")


def _forget(base: Path, published: Path) -> None:
    try:
        forget(base, published)
    except OSError as error:
        warn(f"{published} is published, but the runs rolled back before it are still remembered: {error}")


def _remember(base: Path, numbers: list[int]) -> None:
    try:
        remember(base, [(number, base / str(number)) for number in numbers])
    except OSError as error:
        warn(f"the rollback is not remembered, so stop the refresh of its run: {error}")


def _confirm(published: Path, base: Path, watcher: ServerCheck) -> None:
    """Waits until the watcher serves a version, and hides it again if it does not."""
    number = int(published.name)
    reason = refusal(number, watcher)
    if reason:
        hide_version(base, number)
        left = whole_versions(base)
        now = f"version {left[-1]} is the newest again" if left else "the base path holds no version now"
        raise PublishError(f"version {number} is taken back, {now}: {reason}")


def refusal(number: int, watcher: ServerCheck) -> str:
    """Waits for a watcher to load a version: why it does not serve it; empty as soon as it does."""
    ends = time.monotonic() + watcher.timeout_s
    state = "nothing of it"
    settings: dict[str, Any] = {"timeout_s": min(10.0, watcher.timeout_s), "credentials": watcher.credentials}
    with TwinClient(watcher.address, watcher.model_name, **settings) as client:
        while True:
            try:
                state = client.model_status().get(number, "nothing of it")
            except ServingError as error:
                state = error.sentence
            if state == "AVAILABLE":
                return ""
            if state.startswith("END: "):
                return f"the server {watcher.address} refuses it: {state.removeprefix('END: ')}"
            if time.monotonic() > ends:
                return f"the server {watcher.address} does not serve it after {watcher.timeout_s:g} s, but says {state}"
            time.sleep(_POLL_SECONDS)
