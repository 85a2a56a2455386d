"""The commands of a demo, each in a fork of the demo's process: none of them waits for Python's imports."""

import contextlib
import ctypes
import importlib
import os
import signal
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from twin_tf.core.end_with_parent import _PR_SET_PDEATHSIG
from twin_tf.experiments.subprocess_runner import Steps

FORKED = {"simulate", "preprocess", "train", "evaluate", "inspect", "export"}
"""The others must not find TensorFlow imported."""

HEAVY = ("beam_pipelines.build_examples", "export.saved_model.exporter", "twin_tf.training.train")


class Forked:
    """What `Steps` needs of a `subprocess.Popen`."""

    stderr = None
    returncode: int | None = None

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def terminate(self) -> None:
        """Asks it to end."""
        os.kill(self.pid, signal.SIGTERM)


class ForkedSteps(Steps):
    """Runs what needs TensorFlow or Beam in forks, everything else as ever."""

    @contextlib.contextmanager
    def process(self, command: Sequence[str], alone: bool = False, **options: Any) -> Iterator[Any]:
        """See `Steps.process`."""
        if list(command[1:3]) != ["-m", "twin_tf.cli"] or command[3] not in FORKED:
            with super().process(command, alone, **options) as process:
                yield process
            return
        for module in HEAVY:
            importlib.import_module(module)
        parent, pid = os.getpid(), os.fork()
        if not pid:
            _become(command[3:], options["stdout"].fileno(), parent)
        process = Forked(pid)
        try:
            yield process
        except (KeyboardInterrupt, SystemExit):
            process.terminate()
            os.waitpid(pid, 0)
            raise


def _become(arguments: Sequence[str], stdout: int, parent: int) -> NoReturn:
    """A child's whole life: as a process of its own it would have none of its parent's files and signals."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
    if os.getppid() != parent:
        os._exit(128 + signal.SIGTERM)
    os.dup2(stdout, 1)
    for number in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
        with contextlib.suppress(OSError):
            if number > 2 and stat.S_ISREG(os.fstat(number).st_mode):
                os.close(number)
    from twin_tf.cli.main import main

    code = 70
    try:
        main(list(arguments))
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001  a fork may not come back
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
