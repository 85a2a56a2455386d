"""One model, exported by today's code from the golden run; a test that uses it takes its earlier settings' names."""

import shutil
import tarfile

import pytest

from tests.golden.make_golden import GOLDEN
from tests.twin_tf.built_once import built_once, shared_root
from twin_tf.config import load_config

MAX_CANDIDATES = 16
"""Far fewer than the catalogue's items, as in a catalogue of real size; the gate asks for every item all the same."""


@built_once
def exported_golden_run(root):
    from export.saved_model.exporter import export_run  # TensorFlow, which not every test here needs

    root = root / "provenance"
    root.mkdir()
    for name in ("prepared", "run", "model"):
        with tarfile.open(GOLDEN / f"{name}.tar.xz") as archive:
            archive.extractall(root, filter="data")
    config = load_config(root / "run/config.yaml", [f"serving.max_candidates={MAX_CANDIDATES}"])
    config.save(root / "run/config.yaml")
    export_run(root / "run", root / "new", root / "prepared")
    return root


@pytest.fixture(scope="session")
def root():
    """The golden prepared data, run and model, and `new`, an export of today's code."""
    return exported_golden_run(shared_root())


@pytest.fixture
def copy(root, tmp_path):
    return shutil.copytree(root / "new", tmp_path / "copy")
