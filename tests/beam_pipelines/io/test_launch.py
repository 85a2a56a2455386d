"""A typing error or a job that cannot be is refused before anything runs."""

import errno
import logging
import os
from datetime import datetime, timezone
from pathlib import Path

import pytest

from beam_pipelines.import_dataset import main as import_command
from beam_pipelines.io.launch import MODEL_REQUIREMENTS, beam_options, exit_code, latest_timestamp, quiet_failures
from twin_tf.core.dataclass_yaml import ConfigError


@pytest.mark.parametrize(
    ("runner", "argument", "sentence"),
    [
        ("FnApiRunner", "--as-off=2020-01-01", "no option --as-off; did you mean --as_of?"),
        ("FnApiRunner", "--sharsd=4", "no option --sharsd; did you mean --shards?"),
        ("FnApiRunner", "--colour=red", "no option --colour"),
        ("PortableRunner", "--max-dead-shar=0.1", "no option --max-dead-shar; did you mean --max_dead_share?"),
        (
            "FnApiRunner",
            "--dry_run=True",
            "--dry_run builds a job without running it: it needs --runner=",
        ),
        ("Foo", "--job_name=x", "runner 'Foo' cannot be used: Unexpected pipeline runner: Foo."),
    ],
)
def test_what_beam_would_drop_is_refused(runner: str, argument: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        beam_options(runner, 1, [argument])
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


def test_beam_s_own_options_pass() -> None:
    options = beam_options("FnApiRunner", 2, ["--job_name=nightly", "--direct_num_workers=3"]).get_all_options()
    assert (options["job_name"], options["direct_running_mode"]) == ("nightly", "multi_processing")
    assert beam_options("PortableRunner", 1, ["--parallelism=4"]).get_all_options()["runner"] == "PortableRunner"


def test_workers_that_run_the_model_are_sent_its_requirements() -> None:
    def sent(*arguments: str, model: bool = True) -> tuple[str | None, str | None]:
        options = beam_options("PortableRunner", 1, arguments, model=model).get_all_options()
        return options["requirements_file"], options["requirements_cache"]

    assert sent("--setup_file=./setup.py") == (str(MODEL_REQUIREMENTS), "skip")
    assert sent("--setup_file=./setup.py", "--requirements_file=mine.txt") == ("mine.txt", None)
    assert sent("--setup_file=./setup.py", "--requirements_cache=here") == (str(MODEL_REQUIREMENTS), "here")
    assert sent("--setup_file=./setup.py", model=False) == sent() == (None, None)


def test_the_last_moment_is_a_day_from_now_or_the_given_one() -> None:
    assert 0 <= latest_timestamp(None) - 86_400 - datetime.now(timezone.utc).timestamp() + 60 < 60.1
    assert latest_timestamp("1970-01-02") == latest_timestamp("1970-01-02T01:00:00+01:00") == 86_400
    assert latest_timestamp("1970-01-01T00:00:09Z") == 9


def full(*_: object, **__: object) -> str:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/x")


def test_a_full_disk_ends_a_program_with_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("beam_pipelines.import_dataset.import_dataset", full)
    for program in (lambda: exit_code(full), lambda: import_command(["movielens-1m", f"--output={tmp_path}"])):
        assert program() == 1
        said = capsys.readouterr().err
        assert said == "error: the disk is full: /data/x cannot be written; make room and run the same command again\n"


def test_beam_logs_no_traceback_of_a_full_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("apache_beam")

    def work() -> None:
        for raises in (full, lambda: [][1]):
            try:
                raises()
            except (OSError, IndexError) as error:
                log.exception("a step failed: %s", error)
                last = error
        raise last

    with pytest.raises(IndexError), quiet_failures(str(tmp_path)):
        work()
    assert [record.getMessage() for record in caplog.records] == ["a step failed: list index out of range"]


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(IndexError):
        exit_code(lambda: [][1])
