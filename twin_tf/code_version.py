"""Which code this is."""

import subprocess
from pathlib import Path

from twin_tf import __version__

ROOT = Path(__file__).resolve().parent.parent


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
