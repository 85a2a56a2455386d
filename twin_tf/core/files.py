"""Files that readers see whole or not at all."""

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

JsonDict = dict[str, Any]


def write_whole(path: Path, text: str) -> None:
    """Writes a text under its name only when it is complete; makes the directory.

    Raises:
        OSError: it cannot be written, for example on a full disk; what stood there before still does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
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
        ValueError: it is no JSON, or no mapping.
    """
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no mapping")
    return found


def full_disk(error: BaseException) -> str:
    """One sentence if an error, or what caused it, is a full disk; else empty.

    TensorFlow and Beam raise errors of their own then, of which only the text tells.
    """
    seen: list[BaseException] = []
    found: BaseException | None = error
    while found is not None and found not in seen:
        seen.append(found)
        if isinstance(found, OSError) and found.errno in (errno.ENOSPC, errno.EDQUOT):
            return _full(str(found.filename or ""))
        text = os.strerror(errno.ENOSPC)
        if text in str(found):
            return _full(next(iter(re.findall(rf"(/[^\s;:']+)[^/\n]*{text}", str(found))), ""))
        found = found.__cause__ or found.__context__
    return ""


def _full(path: str) -> str:
    return f"the disk is full{f': {path} cannot be written' if path else ''}; make room and run the same command again"


def digest_of_files(paths: Iterable[Path]) -> str:
    """SHA-256 over the names and contents of files, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.name} {content}\n".encode())
    return digest.hexdigest()
