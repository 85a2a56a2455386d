"""What an export says that it needs is what it writes, and no export starts that the disk cannot hold."""

import dataclasses
from pathlib import Path

import pytest
from click.testing import CliRunner

from export.saved_model.needs import ExportNeeds, check_room, export_needs
from tests.twin_tf import small_run
from tests.twin_tf.built_once import shared_root
from twin_tf.cli.main import main
from twin_tf.core.dataclass_yaml import ConfigError

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def model() -> Path:
    return small_run.small_model(shared_root())


def test_the_disk_that_is_said_is_what_the_variables_take(model: Path) -> None:
    needs = export_needs(shared_root() / "run")
    written = (model / "variables/variables.data-00000-of-00001").stat().st_size
    assert needs.disk == pytest.approx(written, rel=0.02)
    half = export_needs(shared_root() / "run", "float16")
    assert half.projection * 2 == needs.projection == needs.projection_live
    assert (half.weights, half.lookup, half.projection_live) == (needs.weights, needs.lookup, needs.projection)


def test_short_memory_is_warned_of_and_a_full_disk_refused(tmp_path: Path) -> None:
    needs = ExportNeeds(weights=10**9, lookup=0, projection=10**9, projection_live=10**9)
    assert check_room(needs, tmp_path / "deep/model", free_memory=needs.memory) == ""
    warning = check_room(needs, tmp_path / "model", free_memory=needs.memory - 1)
    assert warning.startswith("warning: ") and "docs/many_items.md" in warning
    huge = dataclasses.replace(needs, weights=10**18)
    with pytest.raises(ConfigError, match="the disk has .* GB free"):
        check_room(huge, tmp_path / "model")
    assert check_room(huge, "gs://bucket/model", free_memory=huge.memory) == ""


def test_the_command_says_it_before_it_refuses_an_output(model: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    arguments = ["export", "--run", str(shared_root() / "run"), "--output", str(tmp_path / "full")]
    found = CliRunner().invoke(main, arguments)
    assert found.exit_code != 0
    assert "export needs 0.6" in found.output
