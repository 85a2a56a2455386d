"""Which split a target belongs to, and which events training sees, for every way to split."""

from typing import Any

import numpy as np
import pytest
from small_logs import schema

from beam_pipelines.examples.event_batches import BEHAVIOUR, SPLIT, TARGET
from beam_pipelines.examples.log_survey import LogSurvey, find_split
from beam_pipelines.examples.shard_split import ShardSplit
from beam_pipelines.examples.user_hash import shard_of
from beam_pipelines.examples.value_counts import Histogram
from twin_tf.features.schema import Split
from twin_tf.records.format import Counts, Manifest, SplitTimes

NONE = SplitTimes(100, 100, by="user")


def events(rows: list[tuple[int, ...]]) -> dict[str, Any]:
    """Columns of (user, time, flags, split) rows."""
    user, time, flags, split = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    return {"user": user, "time": time, "flags": flags, SPLIT: split}


def split_of(split: dict[str, Any], *tables: dict[str, Any], times: SplitTimes = NONE) -> ShardSplit:
    return ShardSplit.of(schema(split=split), times, tables)


def test_the_last_targets_of_each_user_test_and_those_of_a_moment_stay_together() -> None:
    targets = [(1, time, TARGET, -1) for time in range(10)]
    targets += [(2, 5, TARGET, -1)]  # a single one trains
    targets += [(3, 5, TARGET, -1)] * 4  # all at one moment train
    targets += [
        (4, time, TARGET, -1) for time in (1, 2, 3, 3, 3)
    ]  # 0.6 of five is three, but two of them are of one moment
    table = events(targets)
    found = split_of({"by": "user_time", "train": 0.6, "valid": 0.2}, table).numbers(table).tolist()
    assert found == [0] * 6 + [1] * 2 + [2] * 2 + [0] + [0] * 4 + [0, 0, 2, 2, 2]
    shuffled = {name: column[::-1] for name, column in table.items()}
    halves = [{name: column[part] for name, column in table.items()} for part in (slice(7, None), slice(7))]
    assert split_of({"by": "user_time", "train": 0.6, "valid": 0.2}, *halves).numbers(shuffled).tolist() == found[::-1]


def test_users_are_spread_by_their_id_alone() -> None:
    users = np.arange(20_000)
    table = {"user": users, "time": users % 7, "flags": np.full(len(users), TARGET)}
    rule = {"by": "user", "train": 0.7, "valid": 0.2}
    found = split_of(rule, table).numbers(table)
    assert np.allclose(np.bincount(found) / len(users), [0.7, 0.2, 0.1], atol=0.01)
    some = {name: column[::3] for name, column in table.items()}
    assert (split_of(rule, some).numbers(some) == found[::3]).all()
    for shard in range(4):  # a shard of users has its part of every split
        assert np.allclose(np.bincount(found[shard_of(users, 4) == shard]) / 5000, [0.7, 0.2, 0.1], atol=0.02)


def test_training_sees_its_targets_and_the_behaviours_before_them() -> None:
    table = events(
        [
            (1, 1, BEHAVIOUR, -1),
            (1, 2, TARGET, 2),  # a test target before the last training target
            (1, 3, BEHAVIOUR | TARGET, 2),  # which is a behaviour, too: training finds it in the history
            (1, 4, TARGET, 0),
            (1, 4, BEHAVIOUR, -1),  # not strictly earlier
            (1, 5, BEHAVIOUR | TARGET, 1),
            (2, 1, BEHAVIOUR, -1),  # a user without targets
            (3, 1, BEHAVIOUR, -1),  # and one without a training target
            (3, 2, TARGET, 2),
        ]
    )
    split = split_of({"by": "column", "column": "fold"}, table)
    assert split.seen(table).tolist() == [True, False, True, True, False, False, False, False, False]
    assert split.numbers(table).tolist() == table[SPLIT].tolist()
    assert split.filled_numbers(table).tolist() == [0, *table[SPLIT].tolist()[1:]]
    early = split_of({"train": 0.5}, table, times=SplitTimes(4, 5))
    assert early.seen(table).tolist() == (table["time"] < 4).tolist()


def test_nobody_and_nothing_have_a_split() -> None:
    nothing = {name: np.zeros(0, np.int64) for name in ("user", "time", "flags", SPLIT)}
    for split in ({"by": "user_time"}, {"by": "user"}, {"by": "column", "column": "fold"}, {"by": "time"}):
        found = split_of(split, nothing)
        assert len(found.numbers(nothing)) == len(found.seen(nothing)) == 0
    alone = events([(7, 3, BEHAVIOUR, -1)])
    assert split_of({"by": "user_time"}, alone).seen(alone).tolist() == [False]


@pytest.mark.parametrize(
    ("split", "trained", "sentence"),
    [
        ({"by": "user"}, 0, "no user is in the train part, so nothing is left to train on; change schema.split"),
        (
            {"by": "column", "column": "fold"},
            0,
            "no target has train in column 'fold', so nothing is left to train on; change schema.split",
        ),
        ({"by": "user"}, 3, None),
        ({"by": "user_time"}, 0, None),
    ],
)
def test_a_split_without_moments_lies_after_the_last_event(split: Any, trained: int, sentence: str | None) -> None:
    log_survey = LogSurvey(9, 5, target_times=Histogram.of(np.array([1, 2])), times=(1, 44), trained=trained)
    found = find_split(schema(split=split), log_survey, None)
    assert found == (sentence or SplitTimes(45, 45, by=split["by"]))


def test_previous_data_are_continued_by_time_alone() -> None:
    log_survey = LogSurvey(9, 5, target_times=Histogram.of(np.array([1, 2])), times=(1, 44), trained=3)
    manifest = Manifest("0", SplitTimes(1, 2), Counts(1, 1, 0, 0, 1, 1, 1, {}), {}, {}, {}, 0, 0)
    assert find_split(schema(split={"by": "user"}), log_survey, manifest) == (
        "logs that are split by user cannot continue previous data: what has trained once must not test later; split "
        "by time, or prepare all logs at once"
    )


def test_data_and_schemas_that_are_split_by_time_read_as_before() -> None:
    manifest = Manifest("0", SplitTimes(1, 2), Counts(1, 1, 0, 0, 1, 1, 1, {}), {}, {}, {}, 0, 0)
    assert '"by"' not in manifest.to_json()
    assert Manifest.from_json(manifest.to_json(), "") == manifest
    other = Manifest("0", SplitTimes(2, 2, by="user"), Counts(1, 1, 0, 0, 1, 1, 1, {}), {}, {}, {}, 0, 0)
    assert Manifest.from_json(other.to_json(), "") == other
    assert schema(split={"by": "time"}).fingerprint == schema(split={"train": 0.8}).fingerprint
    assert "by" not in schema(split={"train": 0.7}).to_plain()["split"]
    assert Split() == Split(by="time")
