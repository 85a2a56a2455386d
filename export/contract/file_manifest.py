"""What a version consists of: every file with its size and SHA-256, and two digests that go with it.

The exporter and the refresh write the list, the publisher keeps it. Whoever edits a file and the list with it is found
by the graph: its variables hold the digest of the assets (`assets_digest`), and the contract of its weights.

Example:
    >>> write_manifest("model")
    >>> fault("models/1700000000")     # empty: whole, every bit
    ''
"""

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Any

from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.files import read_json, sha256_of_file
from twin_tf.core.yaml_text import parse_json

EXTRA = "assets.extra"
MANIFEST = f"{EXTRA}/files.json"
EXPORT = f"{EXTRA}/export.json"
# Without a manifest (placed by hand, or exported before there were any) this much at least makes a model.
_ESSENTIAL = ("saved_model.pb", "variables/variables.index")
_NUMBERS = ("weights_version", "table_version", "items", "probes", "max_candidates")
_NOT_IN_ASSETS = (MANIFEST, EXPORT)  # they are written when the weights are


def write_manifest(directory: str | Path) -> None:
    """Writes the manifest of a directory over whatever one it has."""
    root = Path(directory)
    found = {
        name: {"bytes": (root / name).stat().st_size, "sha256": sha256_of_file(root / name)}
        for name in _names(root)
        if name != MANIFEST
    }
    (root / MANIFEST).parent.mkdir(exist_ok=True)
    (root / MANIFEST).write_text(json.dumps(found, indent=0) + "\n", encoding="utf-8")


def has_manifest(directory: str | Path) -> bool:
    """Whether a version says what it consists of."""
    return (Path(directory) / MANIFEST).is_file()


def fault(directory: str | Path, *, contents: bool = True) -> str:
    """What a version lacks, or has too much, one clause; empty if it is whole.

    Args:
        directory: a model directory.
        contents: read every file and compare its SHA-256; otherwise compare names and sizes alone.
    """
    root = Path(directory)
    try:
        listed = parse_json((root / MANIFEST).read_bytes(), MANIFEST)
    except FileNotFoundError:
        lacking = [name for name in _ESSENTIAL if not (root / name).is_file()]
        return f"{lacking[0]} is missing" if lacking else ""
    except OSError as error:
        return f"{MANIFEST} cannot be read: {error.strerror}"
    except ConfigError as error:
        return str(error)
    if not (isinstance(listed, dict) and all(_is_entry(name, entry) for name, entry in listed.items())):
        return f"{MANIFEST} is damaged: it does not say the size and SHA-256 of each file"
    lacking = [name for name in _ESSENTIAL if name not in listed]
    if lacking:
        return f"{MANIFEST} is damaged: it does not list {lacking[0]}"
    for name, expected in listed.items():
        path = root / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != expected["bytes"]:
            return f"{name} has {path.stat().st_size:,} bytes, not {expected['bytes']:,}"
        if contents and sha256_of_file(path) != expected["sha256"]:
            return f"{name} is damaged: its SHA-256 is another"
    strange = [name for name in _names(root) if name not in listed and name != MANIFEST]
    return f"{strange[0]} is not in {MANIFEST}: it was added later" if strange else ""


def read_description(directory: str | Path) -> dict[str, Any]:
    """The content of `export.json`: what the exporter or the refresh says of a version.

    Raises:
        FileNotFoundError: there is none.
        ConfigError: it is no JSON, or a number in it is none.
    """
    path = Path(directory) / EXPORT
    found = read_json(path)
    for name in _NUMBERS:
        if name in found and (type(found[name]) is not int or not 0 <= found[name] < 1 << 63):
            raise ConfigError(f"{path} says {name} {found[name]!r}, which is no such number; export it again")
    return found


def content_digest(directory: str | Path) -> str:
    """SHA-256 over the names and digests of all files that the manifest lists: which version this is."""
    return hashlib.sha256((Path(directory) / MANIFEST).read_bytes()).hexdigest()


def assets_digest(directory: str | Path) -> str:
    """SHA-256 over names and contents of the assets that the weights are tied to.

    Those are schema, vocabularies, contract, catalogue, probes and warm-up requests: all that is known before the
    weights are written.
    """
    root = Path(directory)
    digest = hashlib.sha256()
    for name in _names(root):
        if name.startswith(f"{EXTRA}/") and name not in _NOT_IN_ASSETS:
            digest.update(f"{name} {sha256_of_file(root / name)}\n".encode())
    return digest.hexdigest()


def _is_entry(name: str, entry: Any) -> bool:
    """Whether a manifest's entry is what `write_manifest` writes: a path inside, and what the file must be."""
    path = PurePosixPath(name)
    inside = not path.is_absolute() and ".." not in path.parts and name == str(path)
    known = isinstance(entry, dict) and type(entry.get("bytes")) is int and isinstance(entry.get("sha256"), str)
    return inside and known


def _names(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
