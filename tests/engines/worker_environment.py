"""A Python environment such as a Dataflow worker has: Beam, the sdist, what the sdist requires, and nothing else."""

import importlib.metadata
import subprocess
import sys
import venv
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def worker_environment(directory: Path, sdist: Path) -> Path:
    """Makes the environment without an index: the files of each required distribution are linked from this one.

    Returns:
        its Python.
    """
    venv.create(directory, with_pip=False)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = directory / "lib" / version / "site-packages"
    install = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index"]
    subprocess.run([*install, "--no-deps", "--no-build-isolation", f"--target={packages}", str(sdist)], check=True)
    (installed,) = importlib.metadata.distributions(name="twin-tf", path=[str(packages)])
    for distribution in _required([*map(Requirement, installed.requires or []), Requirement("apache-beam")]):
        for file in distribution.files or []:
            target = packages / str(file)
            if ".." in file.parts or "__pycache__" in file.parts or target.exists():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(str(file.locate()))
    return directory / "bin/python"


def _required(requirements: list[Requirement]) -> list[importlib.metadata.Distribution]:
    """The distributions of this environment that the requirements need, of all depths."""
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = [(requirement, "") for requirement in requirements]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        found.setdefault(name, importlib.metadata.distribution(name))
        for wanted in {"", *requirement.extras}:
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                waiting += [(Requirement(line), wanted) for line in found[name].requires or []]
    return list(found.values())
