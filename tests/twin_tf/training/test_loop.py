"""Early stopping, what is kept, and that nothing spoilt is ever kept."""

import math
import shutil

import pytest

from tests.twin_tf.small_run import read_json, sign_prepared, small_config, with_splits
from twin_tf.config import config_from_mapping, load_config
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.keras_api import tf
from twin_tf.core.progress import progress_bar
from twin_tf.evaluation.evaluate import Evaluator
from twin_tf.records.format import Manifest
from twin_tf.records.input_pipeline import make_dataset
from twin_tf.runs.run import load_run
from twin_tf.training.loop import Progress
from twin_tf.training.train import train_model
from twin_tf.training.train_step import TrainStep

pytestmark = pytest.mark.integration

SMALL = ("training.batch_records=8", "model.search=din", "model.heads=1")


def evaluated(gaucs, patience):
    """The steps at which training stopped and was best, if GAUC runs like this at every tenth step."""
    progress = Progress()
    for gauc in gaucs:
        progress.steps += 10
        progress.evaluated({"gauc": gauc}, patience)
        if progress.stopped_early:
            break
    return progress.steps, progress.best_steps


def test_epochs_of_earlier_code_have_no_figure_that_it_did_not_measure():
    progress = Progress(epoch=2, loss=[0.6, 0.5], overlap=[1.0, 1.0], entropy=[2.0, 1.5])
    progress.normalised_entropies.append(0.25)
    progress.end_epoch()
    assert progress.normalised_entropy == [None, None, 0.25]
    assert progress.entropy == [2.0, 1.5, None] and len(progress.loss) == len(progress.overlap) == 3


@pytest.mark.parametrize(
    ("gaucs", "patience", "stopped", "best"),
    [
        ((0.5, 0.6, 0.7, 0.6, 0.6), 2, 50, 30),
        ((0.5, 0.6, 0.7, 0.6, 0.8, 0.7), 2, 60, 50),
        ((0.7, 0.6, 0.8, 0.6), 1, 20, 10),
        ((0.7, 0.7, 0.7, 0.9), 2, 30, 10),
        ((None, None, 0.6), 3, 30, 30),
        ((None, None, 0.6), 2, 20, None),
        ((0.7, None, 0.8), 2, 30, 30),
        ((0.7, 0.6, 0.5, 0.4), None, 40, 10),
    ],
)
def test_patience_counts_the_evaluations_since_the_best(gaucs, patience, stopped, best):
    assert evaluated(gaucs, patience) == (stopped, best)


def test_training_that_stands_still_stops_early_and_the_best_is_handed_on(prepared, manifest, tmp_path):
    still = ("training.embedding_learning_rate=1e-30", "training.dense_learning_rate=1e-30")
    chosen = ("training.patience=2", "training.evaluate_every_steps=3", "training.checkpoint_steps=2")
    report = train_model(prepared, tmp_path / "run", small_config(*SMALL, *still, *chosen))
    assert [entry["steps"] for entry in report["valid"]] == [3, 6, 9]
    assert (report["stopped_early"], report["steps"], report["epochs"]) == (True, 9, 1)
    assert report["kept"] == {"which": "best", "steps": 3, "valid": report["valid"][0]}
    assert read_json(tmp_path / "run" / "run.json")["steps"] == 3
    assert tf.train.latest_checkpoint(str(tmp_path / "run" / "checkpoints")).endswith("ckpt-3")
    again = Evaluator(load_run(tmp_path / "run").model).run(manifest, "valid", 8).metrics
    assert again.to_plain() == {name: value for name, value in report["valid"][0].items() if name != "steps"}


def test_the_best_weights_are_those_of_the_best_evaluation(prepared, manifest, tmp_path):
    steep = ("training.embedding_learning_rate=3.0", "training.schedule=constant", "training.epochs=4")
    report = train_model(prepared, tmp_path / "run", small_config(*SMALL, *steep, "training.keep=best"))
    best = max(report["valid"], key=lambda entry: entry["gauc"])
    assert best["steps"] < report["steps"]  # or it would show nothing
    assert report["kept"] == {"which": "best", "steps": best["steps"], "valid": best}
    again = Evaluator(load_run(tmp_path / "run").model).run(manifest, "valid", 8).metrics
    assert {"steps": best["steps"], **again.to_plain()} == best


def test_an_update_that_spoils_the_weights_in_the_very_last_step_is_never_handed_on(prepared, tmp_path, monkeypatch):
    config = small_config(*SMALL, "training.epochs=1", "training.checkpoint_steps=5", "training.validation_records=1")
    step = TrainStep.step
    manifest = Manifest.load(prepared)
    calls = last = 0

    def spoiling(self, batch):
        nonlocal calls, last
        calls += 1
        last = last or len(list(make_dataset(manifest, "train", self.model.window, 8, shuffle_seed=1)))
        learned = step(self, batch)
        if calls == last:
            weight = self.model.dense_variables[0]
            weight.assign(tf.fill(weight.shape, float("nan")))
        return learned

    monkeypatch.setattr(TrainStep, "step", spoiling)
    with pytest.raises(FloatingPointError, match=r"^a weight is no longer finite; lower training\."):
        train_model(prepared, tmp_path / "run", config)
    assert calls == last > 5
    with pytest.raises(ConfigError, match="has no finished training"):
        load_run(tmp_path / "run")
    found = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(tmp_path / "run" / "checkpoints")))
    for name, shape in found.get_variable_to_shape_map().items():
        if found.get_variable_to_dtype_map()[name] == tf.float32:
            assert math.isfinite(found.get_tensor(name).sum()), (name, shape)


@pytest.mark.parametrize("setting", ["patience=1", "keep=best", "evaluate_every_steps=5"])
def test_what_needs_a_valid_split_says_so(setting, prepared, tmp_path):
    copy = shutil.copytree(prepared, tmp_path / "prepared")
    sign_prepared(with_splits(Manifest.load(copy), valid=()))
    with pytest.raises(ConfigError, match=r"keep: best need a valid split, and that of \S+ has no records"):
        train_model(copy, tmp_path / "run", small_config(f"training.{setting}"))
    assert not (tmp_path / "run").exists()


def test_skipped_batches_are_the_first_ones(manifest):
    def read(skip):
        return make_dataset(manifest, "train", 300, 8, shuffle_seed=5, epoch=2, skip=skip)

    whole, rest = list(read(0)), list(read(7))
    assert len(rest) == len(whole) - 7 > 3
    for expected, found in zip(whole[7:], rest, strict=True):
        for one, other in zip(tf.nest.flatten(expected), tf.nest.flatten(found), strict=True):
            assert one.numpy().tobytes() == other.numpy().tobytes()


def test_the_papers_preset_wins_over_the_file_and_yields_to_what_comes_later():
    paper = load_config("complete_journey", ["training.preset=paper"]).training
    assert (paper.embedding_learning_rate, paper.dense_learning_rate, paper.schedule) == (0.05, 5e-6, "constant")
    assert paper.batch_records * 64 == 8192
    later = load_config("complete_journey", ["training.preset=paper", "training.batch_records=2"]).training
    assert (later.batch_records, later.dense_learning_rate) == (2, 5e-6)


def test_a_file_s_own_keys_win_over_its_preset():
    training = config_from_mapping({"training": {"preset": "paper", "dense_learning_rate": 0.1}}).training
    assert (training.dense_learning_rate, training.batch_records) == (0.1, 128)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("preset=papr", "training.preset 'papr' is unknown; did you mean 'paper'?"),
        ("clip_norm=0", "clip_norm must be a positive number, not 0"),
        ("warmup_steps=-1", "warmup_steps must not be negative, not -1"),
        ("patience=0", "patience must be at least 1, not 0"),
        ("evaluate_every_steps=0", "evaluate_every_steps must be at least 1, not 0"),
        ("checkpoint_steps=0", "checkpoint_steps must be at least 1, not 0"),
        ("refresh_steps=0", "refresh_steps must be at least 1, not 0"),
        ("validation_records=0", "validation_records must be at least 1, not 0"),
        ("keep=first", "training.keep must be one of best, last, not 'first'"),
        ("projections=old", "training.projections must be one of live, cached, not 'old'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(setting, words):
    with pytest.raises(ConfigError) as refused:
        load_config(None, [f"training.{setting}"])
    assert words in str(refused.value)


@pytest.mark.parametrize("setting", ["relevance=raw", "search=din"])
def test_a_cached_table_that_nothing_would_read_is_refused(setting):
    with pytest.raises(ConfigError, match=r"^training\.projections: cached needs a search that reads projections"):
        load_config(None, ["training.projections=cached", f"model.{setting}"])


def test_progress_counts_what_was_done_before(capsys):
    with progress_bar("train", 10, 4) as advance:
        advance(6, "")
    assert capsys.readouterr().err.startswith("train: 10 done in ")
