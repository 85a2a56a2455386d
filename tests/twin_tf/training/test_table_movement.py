"""What a run says of its tables: how far their rows moved, and what each is worth."""

import dataclasses

import numpy as np
import pytest

from tests.twin_tf.built_once import shared_root
from tests.twin_tf.planted_items import ITEMS, SHOWN, planted_config, planted_data
from tests.twin_tf.small_run import read_json
from tests.twin_tf.toy import SCHEMA, make_model
from twin_tf.core.keras_api import tf
from twin_tf.evaluation.evaluate import Evaluator
from twin_tf.layers.table_initializer import BLOCK_ROWS, TableInitializer
from twin_tf.records.input_pipeline import load_item_ids
from twin_tf.runs.run import build_model, load_info, load_run
from twin_tf.training.movement_sample import SAMPLED_BLOCKS, SAMPLED_ROWS, sampled_rows
from twin_tf.training.table_movement import measure_tables
from twin_tf.training.table_report import table_rows, worthless_tables
from twin_tf.training.table_rows import TableRows, named_tables
from twin_tf.training.train import train_model
from twin_tf.training.train_step import TrainStep

pytestmark = pytest.mark.integration

ROOT = shared_root()


@pytest.fixture(scope="module")
def planted():
    return planted_data(ROOT)


@pytest.fixture(scope="module")
def learned(planted):
    """A run whose item table has learned."""
    train_model(ROOT / "planted", ROOT / "planted-run", planted_config())
    return ROOT / "planted-run"


def tables_of(run):
    return read_json(run / "report.json")["tables"]


def test_a_table_that_learns_has_moved_and_is_worth_something(learned, planted):
    found = tables_of(learned)
    assert set(found) == {"product", "hour"}
    start = build_model(learned, planted_config(), load_info(learned))[0].item_embedding.tables[0].numpy()
    now = load_run(learned).model.item_embedding.tables[0].numpy()
    shown = 2 + np.flatnonzero(load_item_ids(learned)[2:] < SHOWN)
    norm = np.linalg.norm(start[shown], axis=1).mean()
    moved = np.linalg.norm(now[shown] - start[shown], axis=1) / norm
    product = found["product"]
    assert product["start_norm"] == pytest.approx(norm, rel=1e-6)
    assert product["moved_median"] == pytest.approx(np.median(moved), rel=1e-6)
    assert product["moved_p90"] == pytest.approx(np.quantile(moved, 0.9), rel=1e-6)
    assert product["never_updated"] == pytest.approx(1 - SHOWN / (ITEMS + 1))  # all rows but padding's
    assert product["moved_median"] > 0.3
    assert product["worth"] > 0.3 > 5 * product["worth_error"] > 0


def test_the_curve_ends_where_the_tables_are(learned):
    """So small a table is sampled whole: its last point is what the look at the end finds."""
    report = read_json(learned / "report.json")
    for name, figures in report["tables"].items():
        assert report["curve"][-1]["moved"][name] == pytest.approx(figures["moved_median"], rel=1e-6)
    assert report["curve"][0]["moved"]["product"] < report["curve"][-1]["moved"]["product"]


@pytest.mark.parametrize("rows", [3, 5, BLOCK_ROWS - 1, BLOCK_ROWS + 1, 100 * BLOCK_ROWS + 7])
def test_sampled_rows_are_spread_over_a_table_and_are_never_padding(rows):
    sampled = sampled_rows(rows)
    assert sampled[0] == 1 and sampled[-1] < rows and (np.diff(sampled) > 0).all()
    assert len(sampled) == rows - 1 if rows - 1 <= SAMPLED_ROWS else SAMPLED_ROWS / 2 < len(sampled) <= SAMPLED_ROWS
    assert len(np.unique(sampled // BLOCK_ROWS)) <= SAMPLED_BLOCKS
    assert sampled[-1] > rows - 1.1 * BLOCK_ROWS


def test_rows_by_number_are_those_of_the_blocks():
    model = make_model()
    trainer = TrainStep(model, planted_config().training)
    table = next(iter(named_tables(model)))
    rows, asked = TableRows(table, trainer.strategy, trainer.optimizer.optimizers[0]), np.array([1, 2, 4])
    (_, _, whole), *_ = rows.blocks()
    np.testing.assert_array_equal(rows.at(asked), whole[asked])
    rows._shards = [tf.Variable(whole[:2]), tf.Variable(whole[2:])]  # as parameter servers hold it
    np.testing.assert_array_equal(rows.at(asked), whole[asked])


def test_worth_is_the_rise_of_the_validation_log_loss(learned, planted):
    config, run = planted_config(), load_run(learned)
    trainer = TrainStep(run.model, config.training)
    evaluator = Evaluator(run.model)
    before = [variable.numpy() for variable in run.model.variables]
    found = measure_tables(trainer, planted, evaluator, records=10**6)["product"]
    for variable, value in zip(run.model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    trained = evaluator.run(planted, "valid", 4).metrics.logloss
    start = build_model(learned, config, load_info(learned))[0]
    run.model.item_embedding.tables[0].assign(start.item_embedding.tables[0])
    expected = evaluator.run(planted, "valid", 4).metrics.logloss - trained
    assert found["worth"] == pytest.approx(expected, rel=1e-4)


def test_a_table_that_does_not_learn_is_named(planted, tmp_path, capsys):
    config = planted_config("training.embedding_learning_rate=1e-9")
    train_model(ROOT / "planted", tmp_path / "run", config)
    product = tables_of(tmp_path / "run")["product"]
    assert product["moved_p90"] < 1e-6
    assert product["worth"] == pytest.approx(0, abs=1e-7)
    assert product["never_updated"] == pytest.approx(1 - SHOWN / (ITEMS + 1))
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: the table")]
    assert len(warnings) == 1 and "product is worth nothing: with its 1,400 trained rows" in warnings[0]


@pytest.mark.parametrize(
    ("rows", "worth", "error", "named"),
    [
        (5000, 0.0, 0.0, True),
        (5000, -0.01, 0.002, True),
        (5000, -0.01, 0.02, False),  # noise
        (5000, 0.0003, 0.0, False),
        (900, 0.0, 0.0, False),
        (5000, None, None, False),  # no validation records
    ],
)
def test_only_large_tables_are_named_and_only_beyond_the_noise(rows, worth, error, named):
    figures = {"moved_median": 0.1, "moved_p90": 0.2, "never_updated": 0.2, "updated_rows": rows}
    tables = {"video": {**figures, "worth": worth, "worth_error": error}}
    assert bool(worthless_tables(tables)) == named
    assert all("the table video is worth nothing" in sentence for sentence in worthless_tables(tables))
    shown = "-" if worth is None else f"{worth:+.5f} ± {error:.5f}"
    assert table_rows(tables) == [("video", f"{rows:,}", "20%", "10.0%", "20.0%", shown)]


def test_movement_of_a_run_from_a_run_counts_from_what_that_one_gave(learned, planted, tmp_path):
    config = planted_config("training.embedding_learning_rate=1e-9")
    train_model(ROOT / "planted", tmp_path / "run", config, init_from=learned)
    product = tables_of(tmp_path / "run")["product"]
    given = load_run(learned).model.item_embedding.tables[0].numpy()[2:]
    shown = load_item_ids(learned)[2:] < SHOWN
    assert product["start_norm"] == pytest.approx(np.linalg.norm(given[shown], axis=1).mean(), rel=1e-6)
    assert product["moved_p90"] < 1e-6
    assert product["worth"] == pytest.approx(0, abs=1e-7)
    assert product["never_updated"] == pytest.approx(1 - SHOWN / (ITEMS + 1))


def test_tables_without_validation_records_have_no_worth(learned, planted):
    run = load_run(learned)
    bare = dataclasses.replace(planted, splits={**planted.splits, "valid": ()})
    trainer = TrainStep(run.model, planted_config().training)
    found = measure_tables(trainer, bare, Evaluator(run.model), records=100)
    assert found["product"]["worth"] is None
    # the trainer is new, its accumulators are at their start: the rows themselves tell
    assert found["product"]["never_updated"] == tables_of(learned)["product"]["never_updated"]


def test_every_table_has_a_name_and_a_start_that_can_be_drawn_again():
    changes = {"decoupled_embeddings": True, "consistency": "auxiliary"}
    model = make_model(**changes)
    tables = list(named_tables(model))
    names = [table.name for table in tables]
    assert len(names) == len({*names}) == len(model.embedding_variables)
    assert {"video", "relevance.video", "auxiliary.video", "auxiliary.relevance.video", "auxiliary.page"} <= {*names}
    assert {id(table.variable) for table in tables} == {id(variable) for variable in model.embedding_variables}
    drawn = [table.initializer(table.variable.shape).numpy() for table in tables]
    cross = {f"{prefix}{feature.name}" for prefix in ("", "auxiliary.") for feature in SCHEMA.cross}
    for table, start in zip(tables, drawn, strict=True):
        if table.name not in cross:  # the toy sets those
            np.testing.assert_array_equal(table.variable.numpy(), start, err_msg=table.name)
    assert len({start.ravel()[0] for start in drawn}) == len(drawn)
    other = dict(zip(names, named_tables(make_model(seed=2, **changes)), strict=True))["video"]
    assert (other.variable.numpy() != tables[0].variable.numpy()).all()


def test_a_start_does_not_depend_on_the_shards():
    start = TableInitializer(0.5, seed=3, table="a/b")
    whole = start([2 * BLOCK_ROWS + 100, 3])
    assert whole.dtype == tf.float32 and float(tf.math.reduce_std(whole)) == pytest.approx(0.5, rel=0.02)
    assert len(np.unique(whole.numpy())) > 0.99 * whole.numpy().size
    for first, last in ((0, 7), (BLOCK_ROWS - 1, BLOCK_ROWS + 1), (5, 2 * BLOCK_ROWS + 100)):
        shard = start(whole.shape, partition_shape=(last - first, 3), partition_offset=(first, 0))
        np.testing.assert_array_equal(shard, whole[first:last])
    assert start.rows(4, 4, 3).shape == (0, 3)
