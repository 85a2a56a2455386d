"""TensorFlow's own log lines: none on a terminal, unless `TF_CPP_MIN_LOG_LEVEL` asks for them.

What matters comes as an exception. TensorFlow logs in three ways, and its variable reaches one of them alone: C++ code
that logs by absl does not read it, nor do Python's loggers.
"""

import ctypes
import logging
import os
from pathlib import Path

_LEVEL, _QUIET = "TF_CPP_MIN_LOG_LEVEL", "3"
_LIBRARIES = ("libtensorflow_cc.so.2", "libtensorflow_cc.2.dylib")
_ABSL_RELEASES = ("20230802", "20240116", "20240722", "20250127", "20250512", "20250814")
"""Of absl's C++ library: the symbols carry the release that a TensorFlow was built with."""
_FATAL = 3


def quiet_processes() -> None:
    """Makes this process and those it starts quiet, unless the variable says otherwise; before TensorFlow is loaded."""
    os.environ.setdefault(_LEVEL, _QUIET)


def quiet_library(library: ctypes.CDLL) -> None:
    """Mutes the lines that TensorFlow's C++ library logs by absl, in a quiet process.

    Args:
        library: loaded. One that was built with another release of absl is left as it is.
    """
    if os.environ.get(_LEVEL) != _QUIET:
        return
    for release in _ABSL_RELEASES:
        name = f"lts_{release}"
        try:
            mute = library[f"_ZN4absl{len(name)}{name}14SetMinLogLevelENS0_18LogSeverityAtLeastE"]
        except AttributeError:
            continue
        mute.argtypes, mute.restype = [ctypes.c_int], None
        mute(_FATAL)


def quiet_tensorflow(package: Path) -> None:
    """The same for TensorFlow's Python, once it is imported: its C++ library, and warnings of its loggers.

    Args:
        package: the directory of the package `tensorflow`.
    """
    if os.environ.get(_LEVEL) != _QUIET:
        return
    for name in ("tensorflow", "absl"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for path in (package / name for name in _LIBRARIES):
        if path.exists():
            quiet_library(ctypes.CDLL(str(path)))  # the one that is loaded already
