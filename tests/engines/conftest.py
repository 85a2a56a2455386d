"""Makes this folder's own modules importable, and gives its tests small simulated logs and their local result."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from small_job import SmallJob


@pytest.fixture(scope="session")
def job(tmp_path_factory: pytest.TempPathFactory) -> SmallJob:
    return SmallJob.simulate(tmp_path_factory.mktemp("small_job"))
