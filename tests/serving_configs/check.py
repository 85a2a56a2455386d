"""Checks a folder of serving configurations: yours, if you changed the project's.

    python -m tests.serving_configs.check serving_configs

Prints one line a problem and exits with 1 if there is any.
"""

import sys
from pathlib import Path

from tests.serving_configs import agreement, monitoring
from tests.serving_configs.configs import read


def problems(folder: Path) -> list[str]:
    """Every problem of the folder: those of single files, or, if there are none, what does not agree between them."""
    configs, wrong = read(folder)
    if wrong:
        return wrong
    return [problem for check in agreement.CHECKS + monitoring.CHECKS for problem in check(configs)]


if __name__ == "__main__":
    found = problems(Path(sys.argv[1] if len(sys.argv) > 1 else "serving_configs"))
    print("\n".join(found) or "no problem found")
    sys.exit(bool(found))
