"""Makes `expected_records` and `small_logs` importable: what the tests of this folder share. Nothing is timed."""

import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
