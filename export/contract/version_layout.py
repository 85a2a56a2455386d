"""How versions lie under a base path: one directory a version, whose name is its number."""

import re
from pathlib import Path


def version_numbers(base_path: Path) -> list[int]:
    """The version directories of a base path, rising; hidden and other names are not versions."""
    return sorted(int(p.name) for p in base_path.iterdir() if re.fullmatch(r"[0-9]+", p.name) and p.is_dir())
