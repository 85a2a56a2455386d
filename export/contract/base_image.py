"""A base path in a bucket, as a local directory that looks like it: one rule says what lies in either.

Of each version the image holds `export.json` and `files.json`; all its other files are there by name and size alone,
until `fill` brings them. So a base path of many gigabytes is looked at with a few small reads.
"""

import contextlib
import os
import re
from pathlib import Path

from export.contract.file_manifest import EXPORT, MANIFEST
from export.contract.version_layout import LOCK, ROLLED_BACK
from twin_tf.core.buckets import INDEX, BucketPath, in_parallel
from twin_tf.core.mirrors import new_copy, place_of
from twin_tf.core.yaml_text import parse_json

ENTRIES = ".versions.json"
"""Names of the versions, hidden ones too, that publishers wrote: a listing of the bucket may be late."""

_READ = (EXPORT, MANIFEST)
_OURS = re.compile(r"\d+|\.rolled-back-\d+(-\d+)?")
_FOREIGN_NAMES = 20
"""How many objects of a directory that is not ours are shown."""


def image_of_base(base: BucketPath) -> Path:
    """The image; an empty directory where nothing lies.

    Raises:
        BucketError: the bucket cannot be read.
    """
    image, found = new_copy(base), _listed(base)
    with contextlib.suppress(FileNotFoundError):
        (image / ROLLED_BACK).write_bytes((base / ROLLED_BACK).read())
    for name in known_entries(base):
        if (base / name / INDEX).size() is not None:
            found.setdefault(name, {})
    for name, sizes in found.items():
        if "" in sizes:  # an object at the top
            if name not in (ENTRIES, INDEX, LOCK, ROLLED_BACK):
                _stand_in(image / name, sizes[""])
        elif _OURS.fullmatch(name):
            _show(base / name, image / name, sizes)
        else:
            (image / name).mkdir()
            for inside in list(sizes)[:_FOREIGN_NAMES]:
                _stand_in(image / name / inside, 0)
    return image


def fill(version: Path) -> None:
    """Brings the files of a version of an image; does nothing to a local version.

    Raises:
        BucketError: one cannot be read.
    """
    source = place_of(version)
    if source == str(version):
        return
    with contextlib.suppress(FileNotFoundError):  # said by whoever looks at the version
        BucketPath.of(source).fetch(version, _names(version))


def known_entries(base: BucketPath) -> list[str]:
    """What `ENTRIES` names; nothing if it is not there or is none of ours."""
    try:
        found = parse_json((base / ENTRIES).read(), f"{base}/{ENTRIES}")
    except (FileNotFoundError, ValueError):
        return []
    return [n for n in found if isinstance(n, str) and _OURS.fullmatch(n)] if isinstance(found, list) else []


def _listed(base: BucketPath) -> dict[str, dict[str, int]]:
    """First part of a name -> the rest -> bytes; the rest of an object at the top is empty."""
    found: dict[str, dict[str, int]] = {}
    for name, size in base.files().items():
        first, _, rest = name.partition("/")
        found.setdefault(first, {})[rest] = size
    return found


def _show(version: BucketPath, target: Path, listed: dict[str, int]) -> None:
    """The files of one version: what its index says, where each is there, else what is listed."""
    target.mkdir()
    indexed = version.indexed()
    sizes = listed if indexed == listed else {}
    if not sizes:
        there: dict[str, int | None] = {}
        in_parallel(lambda name: there.update({name: (version / name).size()}), {*indexed, *listed} - {INDEX})
        sizes = {name: size for name, size in there.items() if size is not None}
    for name, size in sizes.items():
        if name != INDEX:
            _stand_in(target / name, size)
    version.fetch(target, [name for name in _READ if name in sizes])


def _stand_in(path: Path, size: int) -> None:
    """A file of a size that takes no room."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.truncate(path, size)


def _names(version: Path) -> list[str]:
    return [path.relative_to(version).as_posix() for path in sorted(version.rglob("*")) if path.is_file()]
