"""The small prepared data and run of `small_run.py`, made once."""

import pytest

from tests.twin_tf import small_run
from tests.twin_tf.built_once import shared_root


@pytest.fixture(scope="session")
def manifest():
    return small_run.small_data(shared_root())


@pytest.fixture(scope="session")
def prepared(manifest):
    return shared_root() / "prepared"


@pytest.fixture(scope="session")
def run():
    return small_run.small_run(shared_root())
