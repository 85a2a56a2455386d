"""Programs of this project that are run as processes of their own."""

import os
from pathlib import Path


def child_environment() -> dict[str, str]:
    """This process's environment with the project importable, for `python -m export...` from any directory."""
    root = str(Path(__file__).resolve().parents[2])
    existing = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{existing}" if existing else root}
