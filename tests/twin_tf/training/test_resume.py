"""Killed at any moment and begun again, a run ends with the bits of the uninterrupted one."""

import os
import random
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from export.session.child_process import child_environment
from tests.patience import PATIENCE_S
from tests.twin_tf.small_run import read_json, sign_prepared, small_config, with_splits
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.keras_api import tf
from twin_tf.records.format import Manifest
from twin_tf.runs.run import RunInfo, load_run
from twin_tf.runs.run_lock import claimed_run
from twin_tf.training.train import train_model
from twin_tf.training.train_step import TrainStep

pytestmark = pytest.mark.integration

SETTINGS = (
    "training.batch_records=8",
    "training.checkpoint_steps=7",
    "training.evaluate_every_steps=17",
    "training.warmup_steps=10",
    "training.clip_norm=0.5",
    "training.keep=best",
    "training.projections=cached",
    "training.refresh_steps=5",
    "training.id_dropout=0.1",
    "training.redraw_tables=true",
    "model.heads=1",
    "model.relevance_statistics=false",
)
REPEATS = ("train_seconds", "examples_per_s")


def config():
    return small_config(*SETTINGS)


@pytest.fixture(scope="module")
def whole(prepared, tmp_path_factory):
    """The uninterrupted run."""
    run = tmp_path_factory.mktemp("whole") / "run"
    train_model(prepared, run, config())
    return run


def everything(run):
    """All that the newest checkpoint holds: weights, optimiser slots, counters."""
    newest = max((run / "checkpoints").glob("ckpt-*.index"), key=lambda path: int(path.stem.partition("-")[2]))
    reader = tf.train.load_checkpoint(str(newest.with_suffix("")))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def assert_same_run(run, whole):
    expected, found = everything(whole), everything(run)
    assert expected.keys() == found.keys()
    assert any("accumulator" in name for name in expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    ignored = dict.fromkeys(REPEATS)
    assert read_json(whole / "report.json")["tables"]["video"]["moved_median"] > 0
    assert read_json(run / "report.json") | ignored == read_json(whole / "report.json") | ignored
    for found, value in zip(load_run(run).model.variables, load_run(whole).model.variables, strict=True):
        np.testing.assert_array_equal(found.numpy(), value.numpy(), err_msg=found.name)


def test_killed_at_any_moment_it_ends_with_the_same_bits(whole, prepared, tmp_path):
    config().save(tmp_path / "config.yaml")
    moments = ["creation:1", f"step:{random.randrange(1, 7)}", "half:2"]
    at_random = [f"seconds:{random.uniform(0, 1):.3f}"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.twin_tf.killed_training", prepared, tmp_path / "run", tmp_path / "config.yaml",
         *moments, *at_random],
        capture_output=True, text=True, env=child_environment(), timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ended = [int(line) for line in done.stdout.split()]
    assert ended[: len(moments)] == [-signal.SIGKILL] * len(moments), done.stderr
    assert set(ended[len(moments) : -1]) <= {-signal.SIGKILL}
    assert ended[-1] == 0
    assert_same_run(tmp_path / "run", whole)


class Interrupted(Exception):
    pass


def interrupt(monkeypatch, steps):
    """Has training end after as many steps, without a word to the rest of it."""
    step, calls = TrainStep.step, 0

    def counted(self, batch):
        nonlocal calls
        calls += 1
        if calls > steps:
            raise Interrupted
        return step(self, batch)

    monkeypatch.setattr(TrainStep, "step", counted)


@pytest.fixture(scope="module")
def stopped(prepared, tmp_path_factory):
    """A run that has checkpoints after 14 and 21 steps and ended after 23."""
    run = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.MonkeyPatch.context() as monkeypatch, pytest.raises(Interrupted):
        interrupt(monkeypatch, 23)
        train_model(prepared, run, config())
    assert {path.stem for path in (run / "checkpoints").glob("ckpt-*.json")} == {"ckpt-14", "ckpt-21"}
    with pytest.raises(ConfigError, match="has no finished training: train it to the end first"):
        load_run(run)
    return run


def test_a_truncated_newest_checkpoint_gives_way_to_the_one_before(stopped, whole, prepared, tmp_path, capsys):
    run = shutil.copytree(stopped, tmp_path / "run")
    path = run / "checkpoints" / "ckpt-21.data-00000-of-00001"
    os.truncate(path, path.stat().st_size - 1)
    train_model(prepared, run, config())
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith(("warning", "resuming"))]
    damage = f"the checkpoint file {path} is damaged or missing"
    assert said == [f"warning: {damage}; going back to the one before", "resuming after 14 steps"]
    assert_same_run(run, whole)


def content(run):
    return {path.relative_to(run): path.read_bytes() for path in run.rglob("*") if path.is_file()}


def refused(run, prepared, settings, match):
    before = content(run)
    with pytest.raises(ConfigError, match=match):
        train_model(prepared, run, settings)
    assert content(run) == before


def test_other_settings_do_not_resume_a_run(stopped, prepared):
    match = (
        r"^the run directory \S+ exists; name a new one, or remove it first: it was begun with other settings, "
        r"training.seed 1, not 2; only the same command resumes it$"
    )
    refused(stopped, prepared, small_config(*SETTINGS, "training.seed=2"), match)


def test_other_data_do_not_resume_a_run(stopped, prepared, tmp_path):
    copy = shutil.copytree(prepared, tmp_path / "prepared")
    fewer = with_splits(Manifest.load(copy), test=())
    sign_prepared(fewer)
    refused(stopped, copy, config(), "it was begun with other data or another --init-from; only the same command")


def test_a_finished_run_is_not_trained_again(whole, prepared):
    refused(whole, prepared, config(), "remove it first: its training is finished$")


def test_two_processes_cannot_train_into_one_run(stopped, manifest, prepared):
    info = RunInfo(manifest.schema_fingerprint, manifest.cardinalities, str(prepared))
    begun = read_json(stopped / "run.json")
    kept = {name: begun[name] for name in ("manifest_sha256", "trained_until", "files")}
    info = RunInfo(**{**vars(info), **kept})
    with claimed_run(stopped, manifest, config(), info):
        refused(stopped, prepared, config(), r"^another process is training into \S+; wait for it or stop it first$")
