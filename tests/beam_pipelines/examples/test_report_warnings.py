"""What the data report warns of: dates, few users, label rates that drift, values that only the items log has."""

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa
from small_logs import schema

from beam_pipelines.examples.item_parts import trained_values
from beam_pipelines.examples.report_content import report_content
from beam_pipelines.examples.report_warnings import warnings_of
from beam_pipelines.examples.statistics import DataStatistics, SplitStatistics
from beam_pipelines.examples.value_counts import Histogram
from beam_pipelines.examples.write_catalogue import untrained_bits
from twin_tf.features.schema import schema_from_mapping
from twin_tf.records.format import Counts, Manifest, SplitTimes

COUNTS = Counts(1, 1, 0, 0, 1, 1000, 1, {"train": 1, "valid": 1, "test": 1})
MANIFEST = Manifest("0", SplitTimes(1, 2), COUNTS, {}, {}, {}, 0, 0)
DAY = 19_000  # in 2022


def histogram(counts: dict[int, int]) -> Histogram:
    return Histogram(np.array(list(counts), np.int64), np.array(list(counts.values()), np.int64))


def statistics(days: dict[int, tuple[int, int]], users: int = 1000, **changes: Any) -> DataStatistics:
    """Day -> targets, clicks; splits of so many users with a tenth of clicks."""
    targets, clicks = ({day: counts[n] for day, counts in days.items()} for n in (0, 1))
    splits = {name: SplitStatistics(users, 10_000, 1_000) for name in ("train", "valid", "test")}
    return dataclasses.replace(
        DataStatistics(targets=histogram(targets), clicks=histogram(clicks), splits=splits), **changes
    )


def warnings(found: DataStatistics, **split: Any) -> list[str]:
    return warnings_of(schema(split=split or None), MANIFEST, found, {}, 0, {})


STEADY = {DAY + n: (1000, 100) for n in range(10)}


def test_steady_data_of_many_users_need_no_warning() -> None:
    assert warnings(statistics(STEADY)) == []
    assert warnings(statistics({})) == []


def test_what_drawn_negatives_cannot_be_like_is_mentioned() -> None:
    rate = {"kind": "numeric", "boundaries": [0.1]}
    plain = schema().to_plain()
    plain["features"] = [feature for feature in plain["features"] if feature["role"] != "candidate"]
    plain["features"].append({"name": "popular", "role": "candidate", "from": "item_rate", "encoding": rate})
    plain["targets"]["negatives"] = {"per_positive": 9}
    drawing = schema_from_mapping(plain)

    def said(**changes: Any) -> list[str]:
        return warnings_of(drawing, MANIFEST, statistics(STEADY, **changes), {}, 0, {})

    same = "Every target of the log is a click, so 'popular' counts the same rate of everything: use item_count or "
    assert said() == [f"{same}user_count in its place."]
    assert said(undrawn=5)[0].startswith("5 negatives could not be drawn: ")
    assert len(said(undrawn=5)) == 1  # then five targets without a click are the log's own
    assert said(clicked_new_items=30) == said()
    assert said(clicked_new_items=31)[0] == (
        "31 of 3,000 clicked targets show an item that has no event on an earlier day, and no drawn one can: a model "
        "learns that new items are clicked."
    )


def test_events_on_one_date_are_mentioned() -> None:
    assert warnings(statistics({DAY: (1000, 100)})) == [
        "Every event lies on one date, 2022-01-08. A split by time says little then: split.by can be user_time or user."
    ]
    assert warnings(statistics({DAY: (1000, 100)}), by="user") == ["Every event lies on one date, 2022-01-08."]
    assert warnings(statistics({0: (500, 50), 1: (500, 50)}), by="user_time") == [
        "Every event lies before 1970-01-02 ends: 't' seems to be a counter, or its unit is not events.time.unit: s."
    ]


def test_a_split_of_few_users_is_mentioned() -> None:
    found = statistics(STEADY)
    found.splits["test"].users = 99
    assert warnings(found) == [
        "The test split has targets of 99 users only (10,000 targets): its figures depend on who they are."
    ]


def test_a_label_rate_that_drifts_by_more_than_chance_is_mentioned() -> None:
    drifting = {DAY + n: (1000, 100 + 10 * n) for n in range(10)}
    assert warnings(statistics(drifting)) == [
        "The share of clicked targets drifts: 10.5% until 2022-01-09, 18.5% from 2022-01-16 on."
    ]
    by_chance = {day: (targets // 100, clicks // 100) for day, (targets, clicks) in drifting.items()}
    assert warnings(statistics(by_chance)) == []
    found = statistics(STEADY)
    found.splits["test"].clicks = 1_500
    assert warnings(found) == [
        "The share of clicked targets differs between the splits: 10.0% in train, 15.0% in test."
    ]
    found.splits["test"].clicks = 0  # one class alone
    assert warnings(found) == ["The share of clicked targets differs between the splits: 10.0% in train, 0.0% in test."]
    found.splits["test"] = SplitStatistics()
    assert warnings(found) == []


def test_values_that_only_the_items_log_covers_are_mentioned() -> None:
    found = statistics(
        STEADY,
        unknown={("valid", "maker"): (0, 100), ("test", "maker"): (5, 200), ("test", "age_group"): (0, 100)},
        untrained={("valid", "maker"): 10, ("test", "maker"): 30},
        indices={
            ("train", "age_group"): histogram({1: 5, 2: 9}),
            ("test", "age_group"): histogram({1: 50, 2: 46, 3: 4}),
        },
    )
    assert warnings(found) == [
        "15.0% of the values of 'maker' in test have a row of their own only because the items log names them: no "
        "training event has them, so their embeddings are never trained.",
        "4.0% of the values of 'age_group' in test have a row of their own only because the users log names them: no "
        "training event has them, so their embeddings are never trained.",
    ]
    report = report_content(schema(), MANIFEST, found, {}, 0, {})
    assert report["untrained"]["test"]["maker"] == 0.15 and report["untrained"]["test"]["age_group"] == 0.04
    assert report["untrained"]["train"]["maker"] is None  # no values there


def test_an_item_is_untrained_if_no_event_has_it_and_its_values_if_no_trained_item_does() -> None:
    features = [
        {
            "name": "product",
            "role": "inherent",
            "column": "item",
            "encoding": {"kind": "vocabulary", "source": "items"},
        },
        {"name": "tags", "role": "inherent", "multi_valued": {"separator": ","}, "encoding": {"kind": "vocabulary"}},
    ]
    used = schema(features=features, users=None)
    lists = pa.array([[2, 3], [3], [4, 5], [4, 2], [1]], pa.list_(pa.int32()))
    table = pa.table({"product": pa.array([2, 3, 4, 5, 1], pa.int32()), "tags": lists})
    trained = np.array([True, False, False, False, False])
    bits = untrained_bits(used, table, trained, {n: trained_values(table[n], trained, 6) for n in table.column_names})
    assert np.unpackbits(bits, axis=1, count=3).tolist() == [
        [0, 0, 0],  # trained
        [1, 1, 0],  # its tag is trained by the first item
        [1, 1, 1],  # none of its tags is
        [1, 1, 0],  # one of its tags is
        [1, 0, 0],  # what is unknown has no row of its own
    ]
