"""Who may train into a run directory: one process at a time, and only into a new run or its own unfinished one."""

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from twin_tf import records
from twin_tf.config import Config, load_config
from twin_tf.file_lock import file_lock
from twin_tf.records import Manifest
from twin_tf.runs import CHECKPOINTS, CONFIG, RUN, RunInfo, create_run, load_info
from twin_tf.strict_yaml import ConfigError

LOCK = ".lock"


@contextlib.contextmanager
def claimed_run(directory: Path, manifest: Manifest, config: Config, info: RunInfo) -> Iterator[None]:
    """Makes the run, or takes up an unfinished one of the same settings and data; nobody else trains into it meanwhile.

    A kill ends the claim.

    Args:
        directory: of the run.
        manifest: of the prepared data.
        config: with the data's schema.
        info: of the run when it starts.

    Raises:
        ConfigError: the directory holds something else, a finished run, one of other settings or data, or is in use.
    """
    refusal = f"the run directory {directory} exists; name a new one, or remove it first"
    ours = (directory / LOCK).exists() or (directory / RUN).exists()
    if not ours and directory.exists() and any(directory.iterdir()):
        raise ConfigError(refusal)
    directory.mkdir(parents=True, exist_ok=True)
    with _lock(directory):
        if (directory / RUN).exists():
            difference = _difference(directory, config, info)
            if difference:
                raise ConfigError(f"{refusal}: {difference}")
        else:  # a kill may have left a part of it
            _remove_created(directory)
            create_run(directory, manifest, config, info)
        yield


@contextlib.contextmanager
def _lock(directory: Path) -> Iterator[None]:
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(file_lock(directory / LOCK))
        except BlockingIOError as error:
            raise ConfigError(f"another process is training into {directory}; wait for it or stop it first") from error
        yield


def _difference(directory: Path, config: Config, info: RunInfo) -> str:
    """Why an existing run is not the one that is to be trained; empty if it is."""
    begun = load_info(directory)
    if begun.weights_version:
        return "its training is finished"
    settings = _different_setting(dataclasses.asdict(load_config(directory / CONFIG)), dataclasses.asdict(config))
    if settings:
        return f"it was begun with other settings, {settings}; only the same command resumes it"
    if dataclasses.replace(begun, prepared=info.prepared) != info:
        return "it was begun with other data or another --init-from; only the same command resumes it"
    return ""


def _different_setting(begun: Any, now: Any, name: str = "") -> str:
    if isinstance(begun, Mapping) and isinstance(now, Mapping):
        for key in {**begun, **now}:
            found = _different_setting(begun.get(key), now.get(key), f"{name}.{key}" if name else key)
            if found:
                return found
        return ""
    return "" if begun == now else f"{name} {begun}, not {now}"


def _remove_created(directory: Path) -> None:
    for name in (CONFIG, records.SCHEMA, f".{RUN}.tmp"):
        (directory / name).unlink(missing_ok=True)
    for name in ("vocabularies", str(Path(records.ITEMS).parent), CHECKPOINTS):
        shutil.rmtree(directory / name, ignore_errors=True)
