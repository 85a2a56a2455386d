"""A copy of what the package is built from, without anything that a build or a test has left in the repository."""

import shutil
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def copy_checkout(directory: Path) -> Path:
    """Copies the three packages and the files of the build into a new folder."""
    directory.mkdir()
    for name in ("twin_tf", "beam_pipelines", "export"):
        shutil.copytree(REPOSITORY / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(REPOSITORY / name, directory)
    return directory
