"""Runs a command that ends when the process that asked for it does, even by `kill -9`.

    python -m twin_tf.core.end_with_parent <parent's pid> command argument ...

Becomes the command. On Linux the kernel sends it SIGTERM when its parent is gone; elsewhere it is an ordinary child.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def ending_with_this_process(command: Sequence[str]) -> list[str]:
    """The command to run in place of `command`; this module must be importable by it."""
    return [sys.executable, "-m", "twin_tf.core.end_with_parent", str(os.getpid()), *command]


def main() -> None:
    """Asks the kernel for the signal, then becomes the command."""
    parent, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
        if os.getppid() != int(parent):  # it was gone before the kernel knew
            sys.exit(128 + signal.SIGTERM)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
