"""Checks a folder of serving configurations: yours, if you changed the project's.

    python -m serving_configs.check serving_configs

Prints one line a problem and exits with 1 if there is any. Run it in a checkout.
"""

import sys
from pathlib import Path

from serving_configs.check.problems import problems

found = problems(Path(sys.argv[1] if len(sys.argv) > 1 else "serving_configs"))
print("\n".join(found) or "no problem found")
sys.exit(bool(found))
