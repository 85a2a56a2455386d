"""What is built once for all workers of a test session, whichever asks first; the others wait and take the same."""

import functools
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from twin_tf.core.file_lock import file_lock

Built = TypeVar("Built")


def shared_root() -> Path:
    """The session's directory: tests/conftest.py makes and removes it. Nobody changes what is built in it."""
    return Path(os.environ["TWIN_TESTS_ROOT"])


def built_once(build: Callable[[Path], Built]) -> Callable[[Path], Built]:
    """`build(root)`, called once for each root; a result that can be pickled."""

    @functools.cache
    def built(root: Path) -> Built:
        name = f"{build.__module__}.{build.__name__}"
        with file_lock(root / f"{name}.lock", patience=float("inf")):
            result = root / f"{name}.pickle"
            if not result.exists():
                result.write_bytes(pickle.dumps(build(root)))
            content: Built = pickle.loads(result.read_bytes())
            return content

    return functools.wraps(build)(built)
