"""The project's commands as a user runs them: a process each, in a directory of their own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from export.session.child_process import child_environment


def run_module(cwd: Path, module: str, *arguments: Any, code: int = 0, timeout: float = 300) -> tuple[str, str]:
    """Runs `python -m module`, which must end with `code` and without a traceback; returns (stdout, stderr)."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd, env=child_environment(), timeout=timeout, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def twin_tf(cwd: Path, *arguments: Any, code: int = 0, timeout: float = 300) -> tuple[Any, str]:
    """Runs `twin-tf`; returns (what it printed as JSON, stderr)."""
    printed, error = run_module(cwd, "twin_tf.cli", *arguments, code=code, timeout=timeout)
    return (json.loads(printed) if printed else None), error
