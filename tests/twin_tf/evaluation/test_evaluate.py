"""Slices of an evaluation are the metrics of those targets alone, and what is known is told from what is new."""

import shutil

import numpy as np
import pytest

from tests.twin_tf.small_run import decode, read_json, sign_run
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.evaluation.evaluate import Evaluator, evaluate_run
from twin_tf.evaluation.evaluation_text import evaluation_text
from twin_tf.evaluation.metrics import compute_metrics
from twin_tf.evaluation.sliced_evaluation import LENGTH_EDGES, Evaluation, Scored
from twin_tf.features.events import TimeColumn
from twin_tf.records.input_pipeline import make_dataset
from twin_tf.records.seen_items import load_seen_items, save_seen_items, seen_items
from twin_tf.runs.run import load_run

pytestmark = pytest.mark.integration


def all_scores(run, manifest, split):
    batches = Evaluator(load_run(run).model).scores(manifest, split, 4)
    return Scored(*map(np.concatenate, zip(*batches, strict=True)))


def bare(row):
    """A row without its intervals, each of which holds its figure."""
    for metric, ends in row.get("intervals", {}).items():
        assert ends is None or ends[0] <= row[metric] <= ends[1]
    return {key: value for key, value in row.items() if key != "intervals"}


def metrics_of(scored, inside):
    return compute_metrics(scored.label[inside], scored.probability[inside], scored.user[inside]).to_plain()


def test_slices_are_the_metrics_of_their_targets(run, manifest, prepared):
    scored = all_scores(run, manifest, "valid")
    assert len(scored.label) == manifest.counts.targets["valid"]
    result = evaluate_run(run, prepared, "valid")
    assert read_json(run / "evaluation-valid.json") == result
    assert result["metrics"] == metrics_of(scored, slice(None))
    lengths = result["by_history_length"]
    assert len(lengths) > 2
    assert [row["from"] for row in lengths] == sorted(row["from"] for row in lengths)
    for row in lengths:
        inside = (scored.history_end >= row["from"]) & (scored.history_end < (row["to"] or 10**9))
        assert bare(row) == {"from": row["from"], "to": row["to"], **metrics_of(scored, inside)}
    known = load_seen_items(run)[scored.item]
    assert [bare(row) for row in result["by_item"]] == [
        {"items": "known", **metrics_of(scored, known)},
        {"items": "new", **metrics_of(scored, ~known)},
    ]
    days = result["slices"]["day"]
    midnight = np.array([f"{row['value']}T00:00" for row in days], "datetime64[s]").astype(np.int64)
    unit = manifest.schema.events.time
    local = scored.time // unit.per_second + int(unit.utc_offset_hours * 3600)
    for row, start in zip(days, midnight.tolist(), strict=True):
        assert bare(row) == {"value": row["value"], **metrics_of(scored, (local >= start) & (local < start + 86_400))}
    assert sum(row["targets"] for row in days) == sum(row["targets"] for row in result["slices"]["user"])


def test_a_feature_slices_by_the_names_of_its_values(run, manifest, prepared):
    result = evaluate_run(run, prepared, "valid", slices=["shown_at", "request_hour"], yardsticks=False)
    assert "yardsticks" not in result
    rows = result["slices"]["shown_at"]
    shown = np.concatenate([record["target/shown_at"] for record in decode(manifest, "valid")])
    assert {row["value"]: row["targets"] for row in rows} == {
        "unknown" if index == 1 else str(index - 2): int((shown == index).sum()) for index in np.unique(shown)
    }
    assert {int(row["value"]) for row in result["slices"]["request_hour"]} <= set(range(24))
    text = evaluation_text(result)
    assert f"shown_at {rows[0]['value']}" in text
    lines = (run / "evaluation-valid-slices.csv").read_text().splitlines()
    assert len(lines) == 1 + sum(len(rows) for rows in result["slices"].values())
    assert len((run / "evaluation-valid-reliability.csv").read_text().splitlines()) == 1 + len(result["reliability"])
    with pytest.raises(ConfigError, match="--slice show_at: no context, candidate or user .*did you mean 'shown_at'"):
        evaluate_run(run, prepared, "valid", slices=["show_at"])


def test_yardsticks_and_intervals_stand_beside_the_run(run, manifest, prepared):
    result = evaluate_run(run, prepared, "test")
    assert {"item_rate", "item_user_rate"} < set(result["yardsticks"])
    for found in result["yardsticks"].values():
        assert found["targets"] == result["metrics"]["targets"]
        assert found["behind"]["auc"]["difference"] == pytest.approx(result["metrics"]["auc"] - found["auc"])
    low, high = result["intervals"]["gauc"]
    assert low < result["metrics"]["gauc"] < high
    requests = {(record["user/id"], time) for record in decode(manifest, "test") for time in record["target/time"]}
    assert result["requests"]["requests"] <= len(requests)
    text = evaluation_text(result)
    assert "item rate + user rate" in text and "95 % over users: auc" in text


def test_a_run_against_itself_differs_by_nothing(run, prepared):
    result = evaluate_run(run, prepared, "valid", against=run, yardsticks=False)
    assert result["against"]["metrics"] == result["metrics"]
    for metric in ("auc", "gauc", "logloss"):
        gap = result["against"]["less"][metric]
        assert gap == {"difference": 0.0, "low": 0.0, "high": 0.0, "beyond_noise": False}
    assert "GAUC +0.0000 (95 % +0.0000 to +0.0000: no more than noise)" in result["against"]["sentence"]
    assert result["against"]["sentence"] in evaluation_text(result)


def test_cut_histories_are_those_of_a_model_that_sees_no_more(run, manifest, prepared):
    """The run's own history length cuts nothing; a cut to 5 is what records without older behaviours give."""
    own = load_run(run).config.model.history_length
    result = evaluate_run(run, prepared, "valid", histories=[5, own], yardsticks=False)
    five, whole, everything = result["history_worth"]
    assert (five["history"], everything["history"]) == (5, None)
    assert whole["auc"] == pytest.approx(everything["auc"], abs=1e-6)
    assert everything["less"]["auc"]["difference"] == 0
    model, short = load_run(run, history_length=5).model, load_run(run).model
    batch = next(iter(make_dataset(manifest, "valid", 400, 1)))
    last = batch.targets.count[0] - 1
    end = int(batch.targets.end[0, last])
    assert end > 5
    history = batch.history._replace(
        item=batch.history.item[:, end - 5 : end],
        time=batch.history.time[:, end - 5 : end],
        cross={name: value[:, end - 5 : end] for name, value in batch.history.cross.items()},
        count=batch.history.count[:, end - 5 : end],
        length=batch.history.length * 0 + 5,
    )
    cut = batch._replace(history=history, targets=batch.targets._replace(end=batch.targets.end * 0 + 5))
    found, wanted = (float(one(given)[0, last]) for one, given in ((model, batch), (short, cut)))
    assert found == pytest.approx(wanted, abs=1e-4)
    assert "behaviours left of their history: 5 " in evaluation_text(result)


def test_an_item_is_known_from_the_train_split_as_a_behaviour_or_as_a_target(run, manifest):
    named = {key: set() for key in ("history/item", "target/item")}
    for record in decode(manifest, "train"):
        for key, found in named.items():
            found.update(record[key].tolist())
    assert named["target/item"] - named["history/item"]
    assert named["history/item"] - named["target/item"]
    seen = seen_items(manifest)
    assert set(np.flatnonzero(seen)) == named["history/item"] | named["target/item"]
    assert len(seen) == manifest.counts.items + 2
    np.testing.assert_array_equal(load_seen_items(run), seen)


def test_what_an_earlier_run_has_seen_counts_by_item_not_by_row(run, manifest, tmp_path):
    """The earlier run's catalogue is the later one's in reverse and lacks an item."""
    import pyarrow.parquet as pq

    for name in ("earlier", "later", "silent"):
        (tmp_path / name / "items").mkdir(parents=True)
        shutil.copyfile(run / "items/items.parquet", tmp_path / name / "items/items.parquet")
    table = pq.read_table(run / "items/items.parquet")
    backwards = table.take(np.arange(len(table) - 1)[::-1])
    backwards = backwards.set_column(0, "row", [np.arange(2, len(table) + 1, dtype=np.int32)])
    pq.write_table(backwards, tmp_path / "earlier/items/items.parquet")
    now = seen_items(manifest)
    unseen = np.flatnonzero(~now)[2:5]  # rows 0 and 1 are no items
    before = np.zeros(len(now) - 1, bool)
    before[len(now) - unseen] = True  # the first item is the last but one of the rows there
    np.save(tmp_path / "earlier/items/seen.npy", before)
    save_seen_items(tmp_path / "later", manifest, tmp_path / "earlier")
    both = load_seen_items(tmp_path / "later")
    ids, earlier = table["id"].to_numpy(), backwards["id"].to_numpy()
    assert set(ids[unseen - 2]) == set(earlier[np.flatnonzero(before) - 2])
    assert set(np.flatnonzero(both)) == set(np.flatnonzero(now)) | set(unseen)
    save_seen_items(tmp_path / "earlier", manifest, tmp_path / "silent")
    assert load_seen_items(tmp_path / "silent") is None
    np.testing.assert_array_equal(load_seen_items(tmp_path / "earlier"), before)  # as it was: nothing was written


def test_a_run_that_does_not_say_what_it_has_seen_has_no_such_slices(run, prepared, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "items/seen.npy").unlink()
    sign_run(copy)
    result = evaluate_run(copy, prepared, "valid")
    assert result["by_item"] is None
    assert result["by_history_length"] == evaluate_run(run, prepared, "valid")["by_history_length"]
    text = evaluation_text(result)
    assert text.endswith("the run does not say which items it was trained on")
    assert "new items  " not in text


def test_the_table_shows_the_split_its_slices_and_the_other_weightings():
    scored = Scored(
        user=np.array([1, 1, 2, 2, 3]),
        item=np.array([2, 3, 2, 9, 3], np.int32),
        label=np.array([1, 0, 0, 1, 1], np.float32),
        probability=np.array([0.75, 0.25, 0.5, 0.25, 0.5], np.float32),
        history_end=np.array([0, 49, 50, 99, 102400], np.int32),
        time=np.array([0, 0, 0, 0, 86_400]),
        context=np.zeros((5, 0), np.int32),
    )
    evaluation = Evaluation(np.array([False, False, True, False]), np.array([1, 3]))
    evaluation.update(scored)
    assert LENGTH_EDGES[:3] == (0, 50, 100)
    slices = evaluation.slices(TimeColumn("time"))
    assert [(row["value"], row["targets"]) for row in slices["user"]] == [("known", 3), ("new", 2)]
    assert [(row["value"], row["targets"]) for row in slices["day"]] == [("1970-01-01", 4), ("1970-01-02", 1)]
    lengths = slices["history length"][:2]
    assert [(row["from"], row["to"], row["auc"], row["targets"]) for row in lengths] == [(0, 50, 1, 2), (50, 100, 0, 2)]
    text = evaluation_text(
        {
            "split": "test",
            "metrics": evaluation.metrics.to_plain(),
            "by_history_length": lengths,
            "by_item": [{"items": row["value"], **row} for row in slices["item"]],
        }
    )
    assert text.splitlines() == [
        "                  targets  users     auc    gauc  logloss  calibration",
        "test                    5      3  0.6667  0.5000   0.6696       0.7500",
        "history 0 to 49         2      1  1.0000  1.0000   0.2877       1.0000",
        "history 50 to 99        2      1  0.0000  0.0000   1.0397       0.7500",
        "known items             2      2  1.0000    none   0.4904       1.2500",
        "new items               3      3  0.7500    none   0.7890       0.5000",
        "gauc weighs a user by impressions; by clicks it is 0.5000, with all users alike 0.5000; "
        "1 users without both labels are left out",
    ]


def test_nothing_scored_has_no_metrics():
    with pytest.raises(ValueError, match="the split is empty"):
        _ = Evaluation().metrics
