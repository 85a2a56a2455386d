"""Checkpoints that a kill at any moment cannot spoil.

`checkpoints/ckpt-<steps>.*` are TensorFlow's files. `ckpt-<steps>.json` is written when they are complete: it holds the
trainer's own state, and size and SHA-256 of each file. What has no such file, or does not agree with it, is no
checkpoint, and the one before it counts. TensorFlow's `checkpoint` names the newest, at the end of a run the one whose
weights the run hands on.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from twin_tf.core.errors import UserError
from twin_tf.core.files import sha256_of_file, write_whole
from twin_tf.core.keras_api import tf

_PREFIX = "ckpt-"
_STATE_FILE = "checkpoint"


class CheckpointStore:
    """The checkpoints of a run.

    Args:
        directory: of this run's checkpoints alone.
        checkpoint: the objects to save and restore.
        kept: called whenever a checkpoint has been saved and what it replaces is gone.
    """

    def __init__(
        self, directory: Path, checkpoint: tf.train.Checkpoint, kept: Callable[[], None] = lambda: None
    ) -> None:
        self._directory = directory
        self._checkpoint = checkpoint
        self._kept = kept
        self._counter = checkpoint.save_counter  # made here: `tf.train.Checkpoint.restore` looks for one
        directory.mkdir(exist_ok=True)

    def save(self, steps: int, state: Mapping[str, Any]) -> str:
        """Writes a checkpoint.

        Args:
            steps: optimiser steps done; names it.
            state: whatever else training needs to go on, as JSON has it.

        Returns:
            The checkpoint's name.
        """
        name = checkpoint_name(steps)
        self._remove(name)
        self._checkpoint.write(str(self._directory / name))
        files = {path.name: _fingerprint(path) for path in sorted(self._directory.glob(f"{name}.*"))}
        content = {"state": dict(state), "files": files}
        whole = json.dumps({**content, "sha256": _digest(content)}, indent=1) + "\n"
        write_whole(self._directory / f"{name}.json", whole, durable=True)
        self.mark_final(name)
        return name

    def restore_newest(self) -> dict[str, Any] | None:
        """Restores the newest sound checkpoint; one line on stderr names each damaged one that it passes over.

        Returns:
            The state saved with it; None if there is no sound checkpoint, and nothing has been changed.
        """
        for name in sorted(self._names(), key=_steps, reverse=True):
            try:
                return self.restore(name)
            except DamagedCheckpointError as damage:
                print(f"warning: {damage}; going back to the one before", file=sys.stderr)
        return None

    def restore(self, name: str) -> dict[str, Any]:
        """Restores one checkpoint.

        Raises:
            DamagedCheckpointError: a file of it is missing or has changed; nothing has been restored.
        """
        state = latest_valid_state(self._directory, name)
        self._checkpoint.read(str(self._directory / name)).assert_consumed()
        return state

    def mark_final(self, name: str) -> None:
        """Makes it the one that `tf.train.latest_checkpoint` names, and so the weights that `load_run` loads."""
        text = f'model_checkpoint_path: "{name}"\nall_model_checkpoint_paths: "{name}"\n'
        write_whole(self._directory / _STATE_FILE, text)

    def previous(self, name: str) -> str | None:
        """The newest checkpoint older than `name`."""
        older = [other for other in self._names() if _steps(other) < _steps(name)]
        return max(older, key=_steps, default=None)

    def keep_only(self, names: Collection[str]) -> None:
        """Removes all other checkpoints, and what a kill has left half-written."""
        for path in self._directory.iterdir():
            if path.name != _STATE_FILE and path.name.rpartition(".")[0] not in names:
                _delete(path)
        self._kept()

    def _names(self) -> list[str]:
        return [path.stem for path in self._directory.glob(f"{_PREFIX}*.json")]

    def _remove(self, name: str) -> None:
        """What is left of a damaged checkpoint of the same steps; its JSON first, so that it is none from then on."""
        (self._directory / f"{name}.json").unlink(missing_ok=True)
        for path in [*self._directory.glob(f"{name}.*"), *self._directory.glob(f"{name}_temp")]:
            _delete(path)


class DamagedCheckpointError(UserError):
    """A checkpoint whose files are not what they were when it was written."""


def latest_valid_state(directory: Path, name: str) -> dict[str, Any]:
    """Looks at every file of a checkpoint.

    Args:
        directory: of the run's checkpoints.
        name: the checkpoint's.

    Returns:
        The state saved with it.

    Raises:
        DamagedCheckpointError: a file of it is missing or has changed.
    """
    place = directory / f"{name}.json"
    try:
        content = json.loads(place.read_text(encoding="utf-8"))
        expected = content.pop("sha256")
        state: dict[str, Any] = content["state"]
        files: dict[str, list[Any]] = content["files"]
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise DamagedCheckpointError(f"the checkpoint {place} cannot be read") from error
    if _digest(content) != expected:
        raise DamagedCheckpointError(f"the checkpoint {place} has been changed")
    for file, fingerprint in files.items():
        path = directory / file
        if not path.is_file() or _fingerprint(path) != fingerprint:
            raise DamagedCheckpointError(f"the checkpoint file {path} is damaged or missing")
    return state


def checkpoint_name(steps: int) -> str:
    """The name of the checkpoint after as many steps."""
    return f"{_PREFIX}{steps}"


def _steps(name: str) -> int:
    number = name.removeprefix(_PREFIX)
    return int(number) if number.isdecimal() else -1


def _fingerprint(path: Path) -> list[Any]:
    """Bytes and SHA-256, as JSON has them."""
    return [path.stat().st_size, sha256_of_file(path)]


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
