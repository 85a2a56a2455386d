"""What is shown of the search is what the model retrieves and attends to, for users whom anyone can choose again."""

import shutil
import struct

import numpy as np
import pytest

from tests.twin_tf.small_run import read_json
from twin_tf.core.keras_api import tf
from twin_tf.evaluation.evaluate import evaluate_run
from twin_tf.evaluation.evaluation_page import write_evaluation_page
from twin_tf.evaluation.retrieved import choose_targets
from twin_tf.evaluation.retrieved_figure import retrieved_figure
from twin_tf.evaluation.retrieved_page import retrieved_page, write_retrieved
from twin_tf.features.events import TimeColumn
from twin_tf.records.input_pipeline import load_item_ids, make_dataset
from twin_tf.records.record_reader import TargetColumns
from twin_tf.records.request_batch import as_served
from twin_tf.runs.run import load_run


def columns(user, time, label):
    count = len(user)
    return TargetColumns(
        np.full(count, 2, np.int8),
        np.zeros(count, np.int32),
        np.array(user, np.int64),
        np.arange(count, dtype=np.int32) + 2,
        np.array(time, np.int64),
        np.array(label, np.int8),
    )


def test_a_user_gives_the_latest_click_and_the_nearest_target_without_one():
    targets = columns([7, 7, 7, 7, 7], [50, 10, 40, 30, 45], [0, 1, 1, 0, 0])
    assert choose_targets(targets, 3) == [(2, 4)]


def test_users_without_both_labels_are_passed_over():
    assert choose_targets(columns([1, 1, 2, 2], [1, 2, 3, 4], [1, 1, 0, 0]), 3) == []
    assert choose_targets(columns([], [], []), 3) == []
    assert choose_targets(columns([1, 1], [1, 2], [1, 0]), 0) == []


def test_three_users_are_a_median_one_and_two_busier_ones():
    user = np.repeat(np.arange(21), np.arange(2, 23))  # the user n has n + 2 targets
    label = np.concatenate([[1, *[0] * (n + 1)] for n in range(21)])
    pairs = choose_targets(columns(user, np.arange(len(user)), label), 3)
    assert [int(user[pair.click]) for pair in pairs] == [10, 15, 19]


def example(seen=4, retrieved=2):
    weights = [0.75, 0.25][:retrieved]
    top = [
        {"item": 10 + n, "name": f"tea $5 {n}", "time": 86_400 * n, "count": 1, "weight": weight}
        for n, weight in enumerate(weights)
    ]
    target = {
        "item": 3, "name": "a | name", "time": 864_000, "label": 1, "probability": 0.5, "seen": seen,
        "retrieved": retrieved, "category": "topic", "top": top,
        "same_category": {"seen": min(1, seen), "retrieved": min(1, retrieved)},
        "days": [10.0, 9.0][:retrieved], "weights": weights, "same": [True, False][:retrieved],
        "seen_days": [float(n) for n in range(seen)],
    }  # fmt: skip
    return {"user": 5, "history": seen, "targets": [target, {**target, "label": 0}]}


def test_the_page_says_what_was_taken_and_how_much_it_weighs():
    page = retrieved_page([example()], TimeColumn("time", utc_offset_hours=2), ["figure.png"])
    assert "### Clicked: a \\| name" in page and "### Not clicked: a \\| name" in page
    assert "Shown on 1970-01-11 02:00; the model gives a click 50%. Of 4 earlier behaviours the search takes 2" in page
    assert "| tea $5 0 | 1970-01-01 02:00 | 75.0% |" in page and "stands for" not in page
    assert "The target's own topic is that of 50% of what is retrieved (1) and of 25% of the history (1)." in page
    assert "There are no figures" not in page
    assert "![Behaviours by the days before the target, and their weights](figure.png)" in page


def test_clusters_say_how_many_behaviours_they_stand_for():
    user = example()
    user["targets"][0]["top"][0]["count"] = 12
    assert "| tea $5 0 | 1970-01-01 00:00 | 12 | 75.0% |" in retrieved_page([user], TimeColumn("time"), [])


def test_without_history_or_users_the_page_says_so():
    assert "The user has no history." in retrieved_page([example(0, 0)], TimeColumn("time"), [])
    assert "no user has both a click and a target without one" in retrieved_page([], TimeColumn("time"), [])


@pytest.mark.parametrize(("seen", "retrieved"), [(4, 2), (1, 1), (0, 0)])
def test_the_figure_is_drawn_of_any_history(seen, retrieved):
    content = retrieved_figure(example(seen, retrieved))
    width, height = struct.unpack(">II", content[16:24])
    assert (width, height) == (880, 572)


@pytest.mark.integration
def test_a_later_call_leaves_nothing_of_an_earlier_one(run, tmp_path):
    shutil.copy(run / "schema.yaml", tmp_path)
    write_retrieved(tmp_path, "test", [example(), example()])
    assert {path.name for path in tmp_path.iterdir()} == {
        "schema.yaml", "retrieved-test.md", "retrieved-test-1.png", "retrieved-test-2.png",
    }  # fmt: skip
    write_retrieved(tmp_path, "test", None)
    assert [path.name for path in tmp_path.iterdir()] == ["schema.yaml"]


@pytest.mark.integration
def test_what_is_shown_is_what_the_model_retrieves(run, manifest, prepared):
    result = evaluate_run(run, prepared, "test", yardsticks=False)
    write_evaluation_page(run, "test")
    assert (run / "retrieved-test.md").is_file() and (run / "retrieved-test-1.png").is_file()
    assert read_json(run / "evaluation-test.json")["retrieved"] == result["retrieved"]
    model = load_run(run).model
    found = {user["user"]: user for user in result["retrieved"]}
    assert len(found) == 3
    ids, checked = load_item_ids(run).tolist(), 0
    for batch in make_dataset(manifest, "test", model.window, 1):
        user = int(batch.user_id[0])
        if user not in found:
            continue
        scores = model.score(as_served(batch, model.schema))
        for target in found[user]["targets"]:
            for column in range(int(batch.targets.count[0])):
                place = (batch.targets.time[0, column], batch.label[0, column])
                own = ids[int(batch.targets.item[0, column])]
                if (int(place[0]), int(place[1]), own) != (target["time"], target["label"], target["item"]):
                    continue
                checked += 1
                assert target["probability"] == pytest.approx(float(tf.sigmoid(scores.logit)[0, column]), abs=1e-5)
                assert target["seen"] == min(int(batch.targets.end[0, column]), model.window)
                valid = scores.long_term.retrieved.valid.numpy()[0, column]
                assert target["retrieved"] == valid.sum() == min(target["seen"], model.config.top_k)
                assert sum(target["weights"]) == pytest.approx(1, abs=1e-4)
                assert target["weights"] == sorted(target["weights"], reverse=True)
                best = int(scores.long_term.weights.numpy()[0, column].mean(axis=0).argmax())
                at = int(scores.long_term.retrieved.position[0, column, best])
                assert target["top"][0]["time"] == int(batch.history.time[0, at])
                assert target["top"][0]["item"] == ids[int(batch.history.item[0, at])]
                assert target["same_category"]["retrieved"] == sum(target["same"])
    assert checked == 6
