"""The working directory of a long command: one process at a time, and nothing of anybody else is touched."""

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.file_lock import file_lock

LOCK = ".lock"
RESULTS = "results"
"""Where a working directory keeps the results of its steps."""


@contextlib.contextmanager
def claimed_workdir(workdir: Path, kind: str, own: Sequence[str] = ("*",), fresh: bool = False) -> Iterator[None]:
    """Makes the directory, or takes up one of the same kind; no other process works in it meanwhile.

    A kill ends the claim.

    Args:
        workdir: a new directory, an empty one, or one that a command of this kind made.
        kind: what it is for, one word; `<kind>.json` in it marks it.
        own: patterns of what such commands write in it; they are removed with `fresh`.
        fresh: whether to begin with nothing.

    Raises:
        ConfigError: it holds something else, cannot be written, or is in use.
    """
    with contextlib.ExitStack() as held:
        try:
            _check(workdir, kind)
            workdir.mkdir(parents=True, exist_ok=True)
            held.enter_context(file_lock(workdir / LOCK))
            if fresh:
                _remove(workdir, own)
            (workdir / f"{kind}.json").write_text("{}\n", encoding="utf-8")
        except BlockingIOError:
            raise ConfigError(
                f"another {kind} is at work in {workdir}; wait for it, stop it, or name another directory"
            ) from None
        except OSError as error:
            raise ConfigError(f"{workdir} cannot be written ({error.strerror}); name another directory") from error
        yield


def _check(workdir: Path, kind: str) -> None:
    marked = (workdir / f"{kind}.json").is_file()
    if workdir.exists() and not marked and any(path.name != LOCK for path in workdir.iterdir()):
        raise ConfigError(f"{workdir} holds something that no {kind} wrote; name another directory")


def _remove(workdir: Path, own: Sequence[str]) -> None:
    for path in (path for pattern in own for path in workdir.glob(pattern)):
        if path.name == LOCK:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
