"""One model, exported by today's code from the golden run; a test that uses it takes its earlier settings' names."""

import shutil
import tarfile

import pytest

from tests.golden.make_golden import GOLDEN


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    """The golden prepared data, run and model, and `new`, an export of today's code."""
    from export.saved_model.exporter import export_run  # TensorFlow, which not every test here needs

    root = tmp_path_factory.mktemp("provenance")
    for name in ("prepared", "run", "model"):
        with tarfile.open(GOLDEN / f"{name}.tar.xz") as archive:
            archive.extractall(root, filter="data")
    export_run(root / "run", root / "new", root / "prepared")
    return root


@pytest.fixture
def copy(root, tmp_path):
    return shutil.copytree(root / "new", tmp_path / "copy")
