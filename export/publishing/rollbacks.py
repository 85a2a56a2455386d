"""Which runs were rolled back, so that the next refresh of one does not undo it; kept in the base path.

.rolled-back.json: {"rolled_back": [{"version": 1700000900, "run": "monday", "weights_version": 1699990000}]}

A run is known by its `weights_version`. It is forgotten when a version of its own or of later weights is published.
"""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

from export.contract.version_layout import ROLLED_BACK, look
from export.publishing.bucket_base import bucket_of
from twin_tf.core.files import read_json, write_whole

_DESCRIPTION = Path("assets.extra/export.json")
_KEY = "rolled_back"


@dataclasses.dataclass(frozen=True)
class RolledBack:
    """A version that was rolled back.

    Attributes:
        version: its number.
        run: name of the run that it was exported or refreshed from.
        weights_version: of that run.
    """

    version: int
    run: str
    weights_version: int


def run_of_version(directory: Path, number: int) -> RolledBack | None:
    """Which run a version is of; None if it does not say."""
    try:
        description = read_json(directory / _DESCRIPTION)
        return _entry({**description, "version": number})
    except (OSError, ValueError, KeyError):
        return None


def rolled_back(base_path: Path) -> list[RolledBack]:
    """What was rolled back and still is: not what lies in the base path as a version again."""
    versions = look(base_path).versions
    return [entry for entry in _read(base_path / ROLLED_BACK) if entry.version not in versions]


def remember(base_path: Path, directories: Iterable[tuple[int, Path]]) -> list[RolledBack]:
    """Adds versions, given by number and directory, that are about to be rolled back.

    Returns:
        Those that say of which run they are, the others cannot be remembered.

    Raises:
        OSError: it cannot be written; what was remembered before still is.
    """
    found = (run_of_version(directory, number) for number, directory in directories)
    added = [entry for entry in found if entry is not None]
    if added:
        before = [entry for entry in rolled_back(base_path) if entry not in added]
        _write(base_path / ROLLED_BACK, [*before, *added])
    return added


def forget(base_path: Path, published: Path) -> None:
    """Forgets the runs that a published version is of or newer than.

    Raises:
        OSError: it cannot be written; what was remembered before still is.
    """
    path, now = base_path / ROLLED_BACK, run_of_version(published, int(published.name))
    before = _read(path)
    if now is None or not before:
        return
    after = [entry for entry in before if entry.weights_version > now.weights_version]
    if not after:
        path.unlink()
        _tell_bucket(base_path)
    elif after != before:
        _write(path, after)


def _read(path: Path) -> list[RolledBack]:
    """What is remembered; nothing if the file is not one that `_write` wrote."""
    if path.is_symlink() or not path.is_file():
        return []
    try:
        return [_entry(plain) for plain in read_json(path)[_KEY]]
    except (ValueError, KeyError, TypeError):
        return []


def _entry(plain: object) -> RolledBack:
    if not isinstance(plain, dict):
        raise ValueError("no mapping")
    version, run, weights = plain["version"], plain["run"], plain["weights_version"]
    if type(version) is not int or type(weights) is not int or not isinstance(run, str):
        raise ValueError("other types")
    return RolledBack(version, run, weights)


def _write(path: Path, entries: list[RolledBack]) -> None:
    if path.is_symlink():
        raise OSError(f"{path} is a link")
    content = {_KEY: [dataclasses.asdict(entry) for entry in entries]}
    write_whole(path, json.dumps(content, indent=1) + "\n", durable=True)
    _tell_bucket(path.parent)


def _tell_bucket(base_path: Path) -> None:
    if (bucket := bucket_of(base_path)) is not None:
        bucket.remembers()
