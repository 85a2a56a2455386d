"""A Python environment with this package, what it requires, and nothing else; for a Dataflow worker also Beam."""

import importlib.metadata
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def worker_environment(directory: Path, archive: Path, extra: str = "", also: Sequence[str] = ("apache-beam",)) -> Path:
    """Makes the environment without an index: the files of each required distribution are linked from this one.

    Args:
        directory: where.
        archive: an sdist or a wheel of this package.
        extra: what is required for it, too.
        also: more distributions, with what they require.

    Returns:
        its Python.
    """
    venv.create(directory, with_pip=False)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = directory / "lib" / version / "site-packages"
    install = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index"]
    subprocess.run([*install, "--no-deps", "--no-build-isolation", f"--target={packages}", str(archive)], check=True)
    (installed,) = importlib.metadata.distributions(name="twin-tf", path=[str(packages)])
    needed = [*map(Requirement, installed.requires or []), *map(Requirement, also)]
    for distribution in required_distributions(needed, extra):
        for file in distribution.files or []:
            target = packages / str(file)
            if ".." in file.parts or "__pycache__" in file.parts or target.exists():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(str(file.locate()))
    return directory / "bin/python"


def required_distributions(requirements: list[Requirement], extra: str = "") -> list[importlib.metadata.Distribution]:
    """The distributions of this environment that the requirements (and those for the extra) need, of all depths."""
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = [(requirement, extra) for requirement in requirements]
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
