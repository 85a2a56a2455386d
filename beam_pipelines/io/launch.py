"""Between the command line and Beam: options are checked before anything runs, a failure ends as one sentence."""

import argparse
import datetime
import difflib
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions, TestOptions
from apache_beam.runners.runner import create_runner

from beam_pipelines.io.record_writer import FAILED, PipelineStoppedError, read_file
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.errors import UserError
from twin_tf.core.files import full_disk
from twin_tf.core.mirrors import named
from twin_tf.core.quiet_logs import quiet_processes

LOCAL_RUNNER = "FnApiRunner"
CLOCK_TOLERANCE_SECONDS = 86_400
MODEL_REQUIREMENTS = Path(__file__).parents[1] / "templates/model_requirements.txt"

_OPTIONS = (
    *("schema", "events", "items", "users", "output", "previous"),
    *("workers", "as_of", "not_before", "runner", "shards", "max_dead_share", "no_verify"),
)


def beam_options(runner: str, workers: int, arguments: Sequence[str], *, model: bool = False) -> PipelineOptions:
    """Beam's options of a job.

    Args:
        runner: Beam's runner.
        workers: worker processes, for the local runner alone.
        arguments: more of Beam's own options, `--name=value` each.
        model: whether the workers run the model. The sdist of `--setup_file` requires no TensorFlow; then it goes
            with `MODEL_REQUIREMENTS`, unless the arguments name another requirements file.

    Raises:
        ConfigError: an unknown runner or option; a dry run on the local runner.
    """
    _refuse_unknown_runner(runner)
    local = runner == LOCAL_RUNNER
    several = [f"--direct_num_workers={workers}", "--direct_running_mode=multi_processing"]
    options = PipelineOptions([f"--runner={runner}", *(several if local and workers > 1 else []), *arguments])
    _refuse_misspelt(arguments, options, local)
    setup = options.view_as(SetupOptions)
    setup.save_main_session = False
    if model and setup.setup_file and not setup.requirements_file:
        setup.requirements_file = str(MODEL_REQUIREMENTS)
        setup.requirements_cache = setup.requirements_cache or "skip"  # workers download it, not the launcher
    return options


def _refuse_unknown_runner(runner: str) -> None:
    try:
        create_runner(runner)
    except (ValueError, ImportError) as error:
        raise ConfigError(f"runner {runner!r} cannot be used: {str(error).splitlines()[0]}") from None


def _refuse_misspelt(beam_arguments: Sequence[str], options: PipelineOptions, local: bool) -> None:
    """Beam drops options that it does not know; a typing error must not become another job."""
    known = options.get_all_options()
    for argument in beam_arguments:
        name = argument.split("=")[0].lstrip("-")
        if not argument.startswith("--") or name in known or name.removeprefix("no_") in known:
            continue
        ours = difflib.get_close_matches(name.replace("-", "_"), _OPTIONS, n=1, cutoff=0.75)
        if local or ours:  # a portable runner may know options of its own
            meant = f"; did you mean --{ours[0]}?" if ours else ""
            raise ConfigError(f"no option --{name}{meant}")
    if local and options.view_as(TestOptions).dry_run:
        raise ConfigError(
            f"--dry_run builds a job without running it: it needs --runner=DataflowRunner, not {LOCAL_RUNNER}"
        )


def latest_timestamp(as_of: str | None) -> int:
    """Seconds since 1970 after which no event can have happened."""
    if as_of is None:
        return int(datetime.datetime.now(datetime.timezone.utc).timestamp()) + CLOCK_TOLERANCE_SECONDS
    return _seconds("as_of", as_of)


def earliest_timestamp(not_before: str | None) -> int | None:
    """Seconds since 1970 before which no event can have happened; None: nobody said so."""
    return None if not_before is None else _seconds("not_before", not_before)


def _seconds(option: str, text: str) -> int:
    try:
        timestamp = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise ConfigError(f"{option} {text!r} must be an ISO date and time such as 2026-01-31T23:59:59+00:00") from None
    return int((timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=datetime.timezone.utc)).timestamp())


@contextmanager
def quiet_failures(root: str) -> Iterator[None]:
    """Turns a job that stopped itself into its sentence, and keeps Beam from logging a traceback for it."""
    log = logging.getLogger("apache_beam")
    stopped = _NotStopped()
    log.addFilter(stopped)
    for handler in logging.getLogger().handlers:
        handler.addFilter(stopped)
    try:
        yield
    except Exception as error:
        sentence = read_file(root, FAILED)
        if sentence:
            raise ConfigError(sentence.decode("utf-8")) from None
        if isinstance(error, OSError):  # Beam puts its own text behind the first line
            raise ConfigError(f"the job could not go on: {str(error).splitlines()[0]}") from None
        raise error
    finally:
        log.removeFilter(stopped)
        for handler in logging.getLogger().handlers:
            handler.removeFilter(stopped)


class JobOnlyBuilt(Exception):
    """The job was built and, as its options say, not run; nothing is wrong."""


def add_runner_options(parser: argparse.ArgumentParser) -> None:
    """The options that every pipeline has."""
    parser.add_argument("--workers", type=int, default=1, help="worker processes of the local runner (default: 1)")
    parser.add_argument("--runner", default=LOCAL_RUNNER, help=f"Beam's runner (default: {LOCAL_RUNNER})")


def add_verify_option(parser: argparse.ArgumentParser) -> None:
    """The option of every pipeline that reads prepared data."""
    read = "read prepared data and runs though a file that holds no records has another SHA-256 than was noted"
    parser.add_argument("--no_verify", "--no-verify", action="store_true", help=read)


def exit_code(job: Callable[[], str]) -> int:
    """Runs what a pipeline's command line asks for, and prints what it says: 0 if it is done or built, else 1."""
    quiet_processes()  # the workers that run a model too
    try:
        print(job())
    except JobOnlyBuilt as built:
        print(built)
    except Exception as error:
        sentence = full_disk(error) or (named(str(error)) if isinstance(error, UserError) else "")
        if not sentence:
            raise
        print(f"error: {sentence}", file=sys.stderr)
        return 1
    return 0


class _NotStopped(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        stopped = PipelineStoppedError.__name__ in record.getMessage() or isinstance(error, PipelineStoppedError)
        return not stopped and not (error is not None and full_disk(error))
