"""Who may train into a run directory: one process at a time, and only into a new run or its own unfinished one."""

import contextlib
import dataclasses
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twin_tf.config import Config
from twin_tf.core.dataclass_yaml import ConfigError, first_difference, to_plain
from twin_tf.core.file_lock import file_lock
from twin_tf.records import format as records
from twin_tf.records.format import Manifest
from twin_tf.runs.recorded_settings import CONFIG, earlier_forms, load_run_config
from twin_tf.runs.run import CHECKPOINTS, RUN, RunInfo, check_run_files, create_run, load_info, save_info

LOCK = ".lock"


@contextlib.contextmanager
def claimed_run(directory: Path, manifest: Manifest, config: Config, info: RunInfo) -> Iterator[RunInfo]:
    """Makes the run, or takes up an unfinished one of the same settings and data; nobody else trains into it meanwhile.

    A kill ends the claim.

    Args:
        directory: of the run.
        manifest: of the prepared data.
        config: with the data's schema.
        info: of the run when it starts.

    Yields:
        `run.json` as the run was begun.

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
            check_run_files(directory, load_info(directory))
            _say_what_is_resumed(directory, info)
            _record_code(directory, info)
            dataclasses.replace(config, schema=manifest.schema).save(directory / CONFIG)
        else:  # a kill may have left a part of it
            _remove_created(directory)
            create_run(directory, manifest, config, info)
        yield load_info(directory)


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
    settings = first_difference(_in_use(load_run_config(directory)), _in_use(config))
    if settings:
        return f"it was begun with other settings, {settings}; only the same command resumes it{_advice(directory)}"
    files = begun.files or info.files  # earlier code noted none
    begun = dataclasses.replace(begun, prepared=info.prepared, commit=info.commit, code=info.code)
    if dataclasses.replace(begun, files=files, sha256="") != info:
        return "it was begun with other data or another --init-from; only the same command resumes it"
    return ""


def _in_use(config: Config) -> dict[str, Any]:
    """Every setting as it is recorded, but for those of searches that are not chosen: no run depends on them."""
    return {**config.to_plain(defaults=True), "model": to_plain(config.model.in_use(), defaults=True)}


def _advice(directory: Path) -> str:
    """How to go on with a run that was begun before a setting existed, or with another default of it."""
    settings = " ".join(f"--set {name}={json.dumps(value)}" for name, value in earlier_forms(directory).items())
    return f", here with {settings}: it was begun by earlier code" if settings else ""


def _say_what_is_resumed(directory: Path, info: RunInfo) -> None:
    """Says when code other than today's began the run, and which form it keeps."""
    begun = load_info(directory).commit
    if begun != info.commit:
        said = f"{directory} was begun by code {begun or 'of an unknown commit'} and goes on with {info.commit}"
        print(f"warning: {said}", file=sys.stderr)
    for name, value in earlier_forms(directory).items():
        print(f"{directory} does not record {name}: it keeps {value!r}, as it was begun", file=sys.stderr)


def _record_code(directory: Path, info: RunInfo) -> None:
    """Adds the code that goes on to those that trained before."""
    begun = load_info(directory)
    added = tuple(code for code in info.code if code not in begun.code)
    if added:
        save_info(directory, dataclasses.replace(begun, code=(*(begun.code or ("unknown",)), *added)))


def _remove_created(directory: Path) -> None:
    for name in (CONFIG, records.SCHEMA, f".{RUN}.tmp"):
        (directory / name).unlink(missing_ok=True)
    for name in ("vocabularies", str(Path(records.ITEMS).parent), CHECKPOINTS):
        shutil.rmtree(directory / name, ignore_errors=True)
