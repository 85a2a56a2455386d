"""What a published version consists of: every file with its size and SHA-256, written by the publisher.

Example:
    >>> write_manifest("models/.incoming")
    >>> fault("models/1700000000")     # empty: whole, every bit
    ''
"""

import json
from pathlib import Path, PurePosixPath
from typing import Any

from twin_tf.core.files import sha256_of_file

MANIFEST = "assets.extra/files.json"
# Without a manifest (placed by hand, or written by an exporter alone) this much at least makes a model.
_ESSENTIAL = ("saved_model.pb", "variables/variables.index")


def write_manifest(directory: str | Path) -> None:
    """Writes the manifest of a directory over whatever one it has."""
    root = Path(directory)
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and name != MANIFEST:
            found[name] = {"bytes": path.stat().st_size, "sha256": sha256_of_file(path)}
    (root / MANIFEST).parent.mkdir(exist_ok=True)
    (root / MANIFEST).write_text(json.dumps(found, indent=0) + "\n", encoding="utf-8")


def fault(directory: str | Path, *, contents: bool = True) -> str:
    """What a version lacks, one clause; empty if it is whole.

    Args:
        directory: a model directory.
        contents: read every file and compare its SHA-256; otherwise compare names and sizes alone.
    """
    root = Path(directory)
    try:
        listed = json.loads((root / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        lacking = [name for name in _ESSENTIAL if not (root / name).is_file()]
        return f"{lacking[0]} is missing" if lacking else ""
    except (OSError, ValueError, RecursionError) as error:
        return f"{MANIFEST} cannot be read: {error}"
    if not isinstance(listed, dict) or not all(_is_entry(name, entry) for name, entry in listed.items()):
        return f"{MANIFEST} lists no files with their bytes and sha256"
    for name in _ESSENTIAL:
        if name not in listed:
            return f"{MANIFEST} does not list {name}"
    for name, expected in listed.items():
        path = root / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != expected["bytes"]:
            return f"{name} has {path.stat().st_size:,} bytes, not {expected['bytes']:,}"
        if contents and sha256_of_file(path) != expected["sha256"]:
            return f"{name} is damaged: its SHA-256 is another"
    return ""


def _is_entry(name: str, entry: Any) -> bool:
    """Whether a manifest's entry is what `write_manifest` writes: a path inside, and what the file must be."""
    path = PurePosixPath(name)
    inside = not path.is_absolute() and ".." not in path.parts and name == str(path)
    known = isinstance(entry, dict) and type(entry.get("bytes")) is int and isinstance(entry.get("sha256"), str)
    return inside and known
