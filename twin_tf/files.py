"""Files that readers see whole or not at all."""

import hashlib
import json
import os
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


def digest_of_files(paths: Iterable[Path]) -> str:
    """SHA-256 over the names and contents of files, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.name} {content}\n".encode())
    return digest.hexdigest()
