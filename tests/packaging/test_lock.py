"""requirements.lock: one version of everything, with the checksums that an installation asks for."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
ENTRIES = re.split(r"\n(?=[a-z])", re.sub(r"^#.*\n", "", LOCK, flags=re.MULTILINE).strip())


def test_every_package_is_pinned_with_its_checksums():
    assert len(ENTRIES) > 200
    for entry in ENTRIES:
        requirement, *hashes = entry.split(" \\\n    --hash=")
        assert re.fullmatch(r"[a-z0-9-]+==[^ ;]+( ; .+)?", requirement), entry
        assert hashes and all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes), entry


@pytest.mark.parametrize("file", ["Makefile", "serving_configs/Dockerfile"])
def test_nothing_is_installed_from_it_without_its_checksum(file):
    text = re.sub(r"\\\n\s*", "", (ROOT / file).read_text(encoding="utf-8"))
    installs = [line for line in text.splitlines() if "-r requirements.lock" in line]
    assert installs
    assert all("--no-deps --require-hashes -r requirements.lock" in line for line in installs)


def test_every_workflow_that_needs_the_packages_installs_them_by_make():
    for workflow in (ROOT / ".github/workflows").glob("*.yaml"):
        for command in re.findall(r"pip install (.+)", workflow.read_text(encoding="utf-8")):
            assert workflow.name == "release.yaml" and command == "build twine setuptools", workflow.name
