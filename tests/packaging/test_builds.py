"""Builds by pip's own way: nothing is left in the checkout, and the wheel holds what the packages read."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.packaging.checkout import copy_checkout

pytestmark = [pytest.mark.integration, pytest.mark.slow]

READ_BY_THE_PACKAGES = {
    "twin_tf/py.typed",
    "beam_pipelines/py.typed",
    "export/py.typed",
    "twin_tf/configs/complete_journey.yaml",
    "beam_pipelines/templates/model_requirements.txt",
    "export/protos/serving_pb2.pyi",
}


def contents(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_checkout(tmp_path_factory.mktemp("builds") / "checkout")


@pytest.mark.parametrize("kind", ["wheel", "editable", "sdist"])
def test_a_build_leaves_nothing_in_the_checkout(kind: str, checkout: Path, tmp_path: Path) -> None:
    before = contents(checkout)
    code = (
        "import sys; from setuptools import build_meta as backend; target = sys.argv[1]; "
        f"backend.get_requires_for_build_{kind}(); backend.build_{kind}(target)"
    )
    built = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=checkout, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    assert contents(checkout) == before
    assert len(list(tmp_path.iterdir())) == 1


def test_pip_leaves_nothing_in_the_checkout_and_makes_a_whole_wheel(checkout: Path, tmp_path: Path) -> None:
    before = contents(checkout)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", f"--wheel-dir={tmp_path}", str(checkout)], check=True)
    assert contents(checkout) == before
    (wheel,) = tmp_path.iterdir()
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    assert held >= READ_BY_THE_PACKAGES
    modules = {name for name in before if name.endswith(".py") and name != "setup.py"}
    assert {name for name in held if name.endswith(".py")} == modules
