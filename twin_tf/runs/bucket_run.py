"""A run in a bucket is trained in a local copy, which is sent after every checkpoint: TensorFlow needs no such store.

No lock of an object store ends with the process that held it. So the training that begins last goes on, and one that
was at work stops when it would send its next checkpoint: it finds another's name in `.lock`.
"""

import contextlib
import json
import os
import secrets
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from twin_tf.core.buckets import BucketPath, is_url
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.mirrors import WorkingCopy
from twin_tf.core.yaml_text import parse_json

LOCK = ".lock"


@contextlib.contextmanager
def run_to_train(run: str | Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A run directory to train in: a local one itself, or a copy of one in a bucket, sent when the block ends well.

    Args:
        run: a new or an unfinished one.

    Yields:
        The directory, and what sends it as it is: first when the run is known to be this training's, then after every
        checkpoint. It raises `ConfigError` if another training has begun meanwhile.
    """
    if not is_url(run):
        yield Path(run), lambda: None
        return
    copy = WorkingCopy(run)
    claim = _Claim(copy.place)

    def send() -> None:
        claim.take_or_check()
        copy.push()

    yield copy.directory, send
    send()


class _Claim:
    """Who trains into a run of a bucket."""

    def __init__(self, place: BucketPath) -> None:
        self._place = place
        self._token = secrets.token_hex(8)
        self._taken = False

    def take_or_check(self) -> None:
        if self._taken and self._holder() != self._token:
            raise ConfigError(
                f"another process has begun to train into {self._place}, so this one stops; name another run directory "
                "if both are wanted"
            )
        if not self._taken:
            said = {"process": os.getpid(), "host": socket.gethostname(), "token": self._token}
            (self._place / LOCK).write(json.dumps(said).encode())
            self._taken = True
            print(
                f"warning: {self._place} lies in a bucket, where no lock keeps a second training out: the one that "
                "begins last goes on, the other stops at its next checkpoint",
                file=sys.stderr,
            )

    def _holder(self) -> object:
        try:
            found = parse_json((self._place / LOCK).read(), f"{self._place}/{LOCK}")
        except (FileNotFoundError, ValueError):
            return None
        return found.get("token") if isinstance(found, dict) else None
