"""Worker processes change nothing; a killed run leaves nothing that a later one would read."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from small_logs import random_logs, schema, write_logs

from beam_pipelines.io.output_directory import STARTED, OutputDirectory
from tests.beam_pipelines.examples.test_build_examples import build, digest
from tests.patience import PATIENCE_S
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.features.schema import load_schema

pytestmark = pytest.mark.integration


def command(tmp_path: Path, arguments: dict[str, str], output: str) -> list[str]:
    (tmp_path / "schema.yaml").write_text(yaml.safe_dump({"schema": schema().to_plain()}))
    logs = [f"--{log}={path}" for log, path in arguments.items()]
    program = [sys.executable, "-m", "beam_pipelines.build_examples", f"--schema={tmp_path}/schema.yaml"]
    return [*program, *logs, f"--output={tmp_path}/{output}"]


def test_two_worker_processes_give_the_bytes_of_one(tmp_path: Path) -> None:
    arguments = write_logs(tmp_path / "raw", random_logs(events=300, seed=6), ".csv")
    build(tmp_path, arguments, "one")
    build(tmp_path, arguments, "two", workers=2)
    assert digest(tmp_path / "one") == digest(tmp_path / "two")


def test_a_killed_run_leaves_nothing_that_the_same_command_would_read(tmp_path: Path) -> None:
    arguments = write_logs(tmp_path / "raw", random_logs(events=300, seed=6), ".jsonl")
    run = command(tmp_path, arguments, "prepared")
    killed = 0
    while True:
        process = subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + PATIENCE_S
        while process.poll() is None and time.monotonic() < deadline:
            if any(tmp_path.glob(".prepared.building-*/*")):  # it has begun to write
                break
            time.sleep(0.002)
        if process.poll() is None and killed < 2:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            killed += 1
            assert not (tmp_path / "prepared").exists()
            assert len(list(tmp_path.glob(".prepared.building-*.lock"))) == 1  # the run before was cleared away
            continue
        assert process.wait(120) == 0
        break
    assert killed == 2
    assert not list(tmp_path.glob(".prepared*"))
    build(tmp_path, arguments, "undisturbed", schema=load_schema(tmp_path / "schema.yaml"))
    assert digest(tmp_path / "prepared") == digest(tmp_path / "undisturbed")


def test_a_living_run_is_not_cleared_away_by_another(tmp_path: Path) -> None:
    output = str(tmp_path / "prepared")
    with OutputDirectory(output).building() as first, OutputDirectory(output).building() as second:
        assert first != second
        assert Path(first).is_dir()
    assert not list(tmp_path.iterdir())


def test_dead_letters_of_a_failed_run_go_with_the_next_that_succeeds(tmp_path: Path) -> None:
    arguments = write_logs(tmp_path / "raw", random_logs(events=60, seed=6), ".jsonl")
    path = Path(arguments["events"])
    good = path.read_bytes()
    path.write_bytes(good + b"nonsense\n")
    with pytest.raises(ConfigError, match="the malformed rows are in .*/prepared.dead_letters"):
        build(tmp_path, arguments)
    assert (tmp_path / "prepared.dead_letters").is_dir()
    path.write_bytes(good)
    build(tmp_path, arguments)
    assert not (tmp_path / "prepared.dead_letters").exists()


def test_elsewhere_only_what_an_unfinished_run_left_is_removed(tmp_path: Path) -> None:
    """A directory on another file system is written in place; the local one plays its part."""

    def remote() -> OutputDirectory:
        directory = OutputDirectory(str(tmp_path / "new"))
        directory.remote, directory.output = True, str(tmp_path / "prepared")
        return directory

    with remote().building() as root:
        assert root == str(tmp_path / "prepared")
        (tmp_path / "prepared/train").mkdir()
        (tmp_path / "prepared/train/stale").touch()
    unfinished = remote()
    unfinished._refuse_finished()
    with unfinished.building() as root:
        assert [path.name for path in Path(root).rglob("*") if path.is_file()] == [STARTED]
        (Path(root) / "_SUCCESS").touch()
    assert [path.name for path in Path(root).rglob("*") if path.is_file()] == ["_SUCCESS"]
    with pytest.raises(ConfigError, match="is not empty; name a new directory"):
        unfinished._refuse_finished()


def test_an_output_that_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    arguments = write_logs(tmp_path / "raw", random_logs(events=60, seed=6))
    (tmp_path / "file").touch()
    for output, sentence in (
        ("file/prepared", "the output .*/file/prepared cannot be written: File exists"),
        ("file", "exists and is not empty"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            build(tmp_path, arguments, output)
    with pytest.raises(ConfigError, match="the output has no name"):
        OutputDirectory("")


def test_of_two_runs_into_one_output_the_first_to_end_stays(tmp_path: Path) -> None:
    directory = OutputDirectory(str(tmp_path / "prepared"))
    with (
        pytest.raises(ConfigError, match="was filled by another while this run was at work"),
        directory.building() as root,
    ):
        (Path(root) / "_SUCCESS").touch()
        (tmp_path / "prepared").mkdir()
        (tmp_path / "prepared/theirs").touch()
    assert [path.name for path in (tmp_path / "prepared").iterdir()] == ["theirs"]
    assert not list(tmp_path.glob(".prepared*"))
