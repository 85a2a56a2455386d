"""A base path in a bucket: publishers work on its image, and what they do there is done in the bucket.

Nothing is renamed in a bucket. A version is uploaded under a hidden name, copied to its number within the store with
`saved_model.pb` last, and removed in the opposite order: a server that looks in between finds a version that it cannot
load yet, and tries again. A lock cannot keep others out, so a publisher leaves its name for an hour at most, looks at
it once more before its version appears, and says what that does not promise.
"""

import contextlib
import json
import os
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from export.contract.base_image import ENTRIES, image_of_base, known_entries
from export.contract.version_layout import INCOMING, LOCK, ROLLED_BACK
from twin_tf.core.buckets import INDEX, BucketError, BucketPath, is_url
from twin_tf.core.errors import UserError
from twin_tf.core.files import JsonDict
from twin_tf.core.mirrors import named, send_directory
from twin_tf.core.yaml_text import parse_json

LEASE_S = 3600
"""How long the name of a publisher that is gone keeps others out."""


class PublishError(UserError, ValueError):
    """A version that was not published; the message is one sentence that says why."""


def warn(sentence: str) -> None:
    """Says on standard error, in one line, what a person should look at; the work goes on."""
    print(f"warning: {named(sentence)}", file=sys.stderr)


class BucketBase:
    """What is done to a base path in a bucket, after its image.

    Args:
        place: the base path.
        job: what it is claimed for: `publish`, `refresh` or `rollback`; a rollback waits for nobody.

    Raises:
        PublishError: another publisher is at work.
        BucketError: the bucket cannot be read or written.
    """

    def __init__(self, place: BucketPath, job: str) -> None:
        self._place = place
        self._mine = {"job": job, "process": f"{os.getpid()} on {socket.gethostname()}", "token": secrets.token_hex(8)}
        holder = self._holder()
        if holder is not None and job != "rollback" and time.time() - holder["time"] < LEASE_S:
            minutes = LEASE_S // 60
            raise PublishError(
                f"a {holder['job']} (process {holder['process']}) is at work in {place}; try again when it has "
                f"finished, or remove {place}/{LOCK} if it was killed: after {minutes} minutes it no longer counts"
            )
        self.image = Path()
        (place / LOCK).write(json.dumps({**self._mine, "time": int(time.time())}).encode())
        warn(
            f"{place} lies in a bucket, where no lock keeps out a publisher that begins in the same seconds: let one "
            "machine publish"
        )

    def opens(self) -> Path:
        """The image; what a killed publisher left half is removed from the bucket first."""
        self.image = image_of_base(self._place)
        for version in sorted(self.image.iterdir()):
            half = version.name.isdigit() and (version / "variables").is_dir()
            if half and not (version / "saved_model.pb").is_file():
                warn(f"{version} holds no saved_model.pb, so a publisher was killed; it is removed")
                self.goes(version.name)
                shutil.rmtree(version)
        return self.image

    def appears(self, written: Path, number: int) -> int:
        """Publishes a directory; returns the number that it has, above `number` where that is taken.

        Raises:
            PublishError: another publisher has begun meanwhile; nothing has appeared.
            BucketError: it cannot be written; nothing has appeared, or it is gone again.
        """
        sizes: dict[str, int] = {}
        hidden = self._place / f"{INCOMING}{secrets.randbelow(10**9)}"
        try:
            sizes = send_directory(written, hidden)
            self._check_claim()
            while (self._place / str(number) / INDEX).size() is not None:
                number += 1
            version = self._place / str(number)
            self._note(added=str(number))
            try:
                hidden.copy_to(version, [*sizes, INDEX])
            except BaseException:
                with contextlib.suppress(BucketError):
                    version.delete([*sizes, INDEX])
                raise
        finally:
            with contextlib.suppress(BucketError):
                hidden.delete([*sizes, INDEX])
                hidden.remove()
        return number

    def moves(self, name: str, other: str) -> None:
        """Moves an entry to a hidden name: copied whole before the first object of it goes."""
        source, target = self._place / name, self._place / other
        names = [*source.indexed(), INDEX] if (source / INDEX).size() is not None else [*source.files()]
        self._note(added=other)
        source.copy_to(target, names)
        source.remove()
        self._note(gone=name)

    def goes(self, name: str) -> None:
        """Removes an entry."""
        entry = self._place / name
        if entry.size() is not None:
            self._place.delete([name])
        else:
            entry.remove()
            self._note(gone=name)

    def remembers(self) -> None:
        """Writes `ROLLED_BACK` as the image has it."""
        path = self.image / ROLLED_BACK
        if path.is_file():
            (self._place / ROLLED_BACK).write(path.read_bytes())
        else:
            self._place.delete([ROLLED_BACK])

    def ends(self) -> None:
        """Gives the base path free, if it is still this publisher's."""
        holder = self._holder()
        if holder is not None and holder["token"] == self._mine["token"]:
            self._place.delete([LOCK])

    def _check_claim(self) -> None:
        holder = self._holder()
        if holder is None or holder["token"] != self._mine["token"]:
            who = "nobody says who" if holder is None else f"a {holder['job']} (process {holder['process']})"
            raise PublishError(
                f"nothing is published: another publisher has begun in {self._place} meanwhile, {who}; try again when "
                "it has finished"
            )

    def _holder(self) -> JsonDict | None:
        """Who has claimed the base path last; None if nobody says so."""
        try:
            found = parse_json((self._place / LOCK).read(), f"{self._place}/{LOCK}")
        except (FileNotFoundError, ValueError):
            return None
        known = isinstance(found, dict) and found.keys() >= {*self._mine, "time"} and type(found["time"]) is int
        return found if known else None

    def _note(self, added: str | None = None, gone: str | None = None) -> None:
        entries = [name for name in known_entries(self._place) if name not in (added, gone)]
        (self._place / ENTRIES).write(json.dumps([*entries, *([added] if added else [])]).encode())


_open: dict[Path, BucketBase] = {}
"""Image -> the base path that it is of."""


@contextlib.contextmanager
def base_at_hand(base_path: str | Path, job: str) -> Iterator[Path]:
    """A base path to work on: a local one itself, or the image of one in a bucket, which is claimed meanwhile.

    Raises:
        PublishError: see `BucketBase`; those of the block, with the bucket's name.
    """
    if not is_url(base_path):
        yield Path(base_path)
        return
    base = BucketBase(BucketPath.of(base_path), job)
    try:
        image = base.opens()
        _open[image] = base
        yield image
    except PublishError as error:
        raise PublishError(named(str(error))) from error
    finally:
        _open.pop(base.image, None)
        base.ends()


def bucket_of(base: Path) -> BucketBase | None:
    """What is to be done in a bucket too; None for a local base path."""
    return _open.get(base)
