"""Runs the gate on model directories, each in a fork of this process, which never imports TensorFlow's Python.

python forked_gates.py

Each line of standard input is a JSON list: a model directory, and a base path or null. A line of JSON comes back when
its gate has ended: the exit status (negative: the signal that ended it), the check that failed, and what it wrote to
standard output or error. Forking saves each the start of Python and the library of TensorFlow; its session is begun in
the fork alone. Two things make it cheaper than the gate: it ends at the first check that fails, and TensorFlow's graph
optimisers, which no check needs, are off.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy is imported: only a process of one thread may be forked

from export.gate.check import Check
from export.gate.op_allowlist import stock_operations
from export.gate.validate import _Gate, validate
from export.session.cpp_session import CppSession

# ConfigProto.graph_options: opt_level L0 of optimizer_options, disable_meta_optimizer of rewrite_options.
_OPTIONS = b"\x1a\x0b\x18" + b"\xff" * 9 + b"\x01" + b"\x52\x03\x98\x01\x01"
_UNOPTIMISED = b"\x52" + bytes([len(_OPTIONS)]) + _OPTIONS
_load, _try = CppSession._load, _Gate._try
CppSession._load = lambda self, config, tags: _load(self, config + _UNOPTIMISED, tags)


def gate(directory: str, base: str | None, output: Path) -> int:
    """A child's whole life."""
    written = os.open(output / "written", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(written, 1)
    os.dup2(written, 2)

    def until_refused(self: _Gate, name: str, check: Callable[[], Check]) -> bool:
        if not _try(self, name, check):
            (output / "failed.json").write_text(json.dumps({name: self.checks[-1].detail}), encoding="utf-8")
            os._exit(1)
        return True

    _Gate._try = until_refused
    try:
        validate(directory, base_path=base)
    except BaseException:  # noqa: BLE001  a fork may not come back
        sys.excepthook(*sys.exc_info())
        return 70
    return 0


def main() -> None:
    stock_operations()
    tasks = len(list(Path("/proc/self/task").iterdir())) if Path("/proc/self/task").exists() else 1
    assert tasks == 1, f"{tasks} threads are running: a fork would lose them"
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch)
        for line in sys.stdin:
            directory, base = json.loads(line)
            (output / "failed.json").unlink(missing_ok=True)
            child = os.fork()
            if not child:
                os._exit(gate(directory, base, output))
            _, status = os.waitpid(child, 0)
            failed = output / "failed.json"
            said = {
                "status": os.waitstatus_to_exitcode(status),
                "failed": json.loads(failed.read_text(encoding="utf-8")) if failed.exists() else {},
                "written": (output / "written").read_text(errors="replace"),
            }
            print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
