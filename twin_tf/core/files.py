"""Files that readers see whole or not at all."""

import contextlib
import errno
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from twin_tf.core.yaml_text import parse_json

JsonDict = dict[str, Any]


_BLOCK = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)
"""A full disk, and a user's share of one."""
_SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")
"""What NumPy says when an array does not fit; it keeps no error number."""


def write_whole(path: Path, text: str, *, durable: bool = False) -> None:
    """Writes a text under its name only when it is complete; makes the directory.

    Args:
        path: of the file.
        text: its content.
        durable: whether it lies on the disk when this returns, whatever happens to the machine.

    Raises:
        OSError: it cannot be written, for example on a full disk; what stood there before still does.
    """
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        if durable:
            file.flush()
            os.fsync(file.fileno())


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to: it takes that name when the block ends, and is removed if the block fails.

    Args:
        path: of the file; its directory is made.

    Raises:
        OSError: it cannot be written; what stood there before still does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: JsonDict) -> None:
    """`write_whole` of JSON."""
    write_whole(path, json.dumps(content, indent=1) + "\n")


def read_json(path: Path) -> JsonDict:
    """Reads JSON that is a mapping.

    Raises:
        OSError: there is no such file.
        ConfigError: it is no JSON, see `yaml_text.parse_json`.
        ValueError: it is no mapping.
    """
    found = parse_json(path.read_bytes(), str(path))
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no mapping")
    return found


def full_disk(error: BaseException) -> str:
    """One sentence if an error, or what caused it, is a full disk; else empty.

    TensorFlow, Beam and NumPy raise errors of their own then, of which only the text tells.
    """
    seen: list[BaseException] = []
    found: BaseException | None = error
    while found is not None and found not in seen:
        seen.append(found)
        if isinstance(found, OSError) and found.errno in _FULL:
            return _full(str(found.filename or ""))
        if isinstance(found, OSError) and _SHORT_WRITE.fullmatch(str(found)):
            return _full("")
        for text in map(os.strerror, _FULL):
            if text in str(found):
                return _full(next(iter(re.findall(rf"(/[^\s;:']+)[^/\n]*{text}", str(found))), ""))
        found = found.__cause__ or found.__context__
    return ""


def _full(path: str) -> str:
    return f"the disk is full{f': {path} cannot be written' if path else ''}; make room and run the same command again"


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits; never more than a block of it in memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def digest_of_files(paths: Iterable[Path]) -> str:
    """SHA-256 over the names and contents of files, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{path.name} {sha256_of_file(path)}\n".encode())
    return digest.hexdigest()
