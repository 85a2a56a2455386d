"""What the simulated logs promise, measured with counting oracles: no network is trained here."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from beam_pipelines.simulate_logs import Simulation, history_lengths, simulate_logs
from twin_tf.config import load_config
from twin_tf.core.dataclass_yaml import ConfigError

pytestmark = pytest.mark.integration

SMALL = {"users": 12, "days": 30, "items": 800, "topics": 40, "median_history": 60, "max_history": 200, "targets": 500}


class Logs(NamedTuple):
    path: Path
    counts: dict[str, int]
    events: pa.Table
    items: pa.Table
    users: pa.Table


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Logs:
    path = tmp_path_factory.mktemp("simulated") / "raw"
    counts = simulate_logs(path, users=250, targets=30_000)
    events = pq.read_table(path / "events.parquet").sort_by([("user_id", "ascending"), ("time", "ascending")])
    return Logs(path, counts, events, pq.read_table(path / "items.parquet"), pq.read_table(path / "users.parquet"))


def auc(score: np.ndarray, label: np.ndarray) -> float:
    """Chance that a positive scores above a negative, ties counting half."""
    values, position, count = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[position]
    positives = int(label.sum())
    return float((rank[label == 1].sum() - positives * (positives + 1) / 2) / (positives * (len(label) - positives)))


class Oracle:
    """Counts, for every target, the earlier clicks of its user on videos that share a property with it."""

    def __init__(self, logs: Logs) -> None:
        self.events = logs.events
        time = self.column("time")
        self.user = np.unique(self.column("user_id"), return_inverse=True)[1]
        self.clicks = np.flatnonzero(self.column("click"))
        self.targets = np.flatnonzero(self.column("target"))
        self.label = self.column("click")[self.targets]
        self.first = np.searchsorted(self.user[self.clicks], np.arange(self.user.max() + 2))
        self.order = np.arange(len(self.clicks)) - self.first[self.user[self.clicks]]
        span = int(time.max() - time.min()) + 1
        timestamp = self.user * span + (time - time.min())
        earlier = np.searchsorted(timestamp[self.clicks], timestamp[self.targets], side="left")
        self.end = earlier - self.first[self.user[self.targets]]
        place = np.searchsorted(np.sort(logs.items["video_id"].to_numpy()), self.column("video_id"))
        self.items = logs.items.sort_by("video_id").take(place)

    def column(self, name: str) -> np.ndarray:
        return self.events[name].to_numpy()

    def matches(self, name: str, latest: int | None = None) -> np.ndarray:
        """Matching clicks among the latest so many, or all; accidental ones (played for under 0.3) do not count."""
        value = np.unique(np.asarray(self.items[name].to_pylist()), return_inverse=True)[1]
        key = (self.user * (value.max() + 1) + value) << 20
        counts = self.column("completion")[self.clicks] > 0.3
        click_keys = np.sort((key[self.clicks] + self.order)[counts])
        start = np.zeros_like(self.end) if latest is None else np.maximum(self.end - latest, 0)
        at = key[self.targets]
        return np.searchsorted(click_keys, at + self.end) - np.searchsorted(click_keys, at + start)

    def auc(self, latest: int | None = None) -> float:
        """AUC of a target's interest-match count: same author, and a tenth for the same topic."""
        return auc(self.matches("author", latest) + 0.1 * self.matches("topic", latest), self.label)


@pytest.fixture(scope="module")
def oracle(logs: Logs) -> Oracle:
    return Oracle(logs)


def test_the_whole_history_knows_what_the_latest_100_do_not(oracle: Oracle) -> None:
    whole, latest = oracle.auc(), oracle.auc(100)
    assert whole > 0.72
    assert latest < 0.62
    assert oracle.auc(1000) > latest + 0.09


def test_a_topic_alone_leaves_something_for_authors_and_embeddings_to_learn(oracle: Oracle) -> None:
    topic = auc(oracle.matches("topic"), oracle.label)
    assert 0.65 < topic < oracle.auc() - 0.015


def test_popularity_says_next_to_nothing(logs: Logs, oracle: Oracle) -> None:
    video = oracle.column("video_id")
    for rows in (slice(None), oracle.clicks):
        seen, count = np.unique(video[rows], return_counts=True)
        shown = video[oracle.targets]
        place = np.minimum(np.searchsorted(seen, shown), len(seen) - 1)
        assert 0.45 < auc(np.where(seen[place] == shown, count[place], 0), oracle.label) < 0.56


@pytest.mark.parametrize(
    "name",
    [
        "video_id",
        "author",
        "topic",
        "duration",
        "category",
        "user_id",
        "age_group",
        "device",
        "hour",
        "history_length",
        "position",
    ],
)
def test_no_single_feature_predicts_the_label(name: str, logs: Logs, oracle: Oracle) -> None:
    """The click rate of each value, learned on the first 60 % of the targets, ranks the rest no better than .56."""
    at = oracle.targets
    time = oracle.column("time")[at]
    if name in logs.items.column_names:
        values = np.asarray(oracle.items[name].to_pylist())[at]
    elif name in logs.users.column_names and name != "user_id":
        row = np.searchsorted(logs.users["user_id"].to_numpy(), oracle.column("user_id")[at])
        values = np.asarray(logs.users[name].to_pylist())[row]
    elif name == "hour":
        values = time // 3_600_000 % 24
    elif name == "history_length":
        values = oracle.end // 500
    else:
        values = oracle.column("page_position" if name == "position" else name)[at]
    value = np.unique(values, return_inverse=True)[1]
    train = time < np.quantile(time, 0.6)
    shown = np.bincount(value[train], minlength=value.max() + 1)
    clicked = np.bincount(value[train], weights=oracle.label[train], minlength=value.max() + 1)
    rate = (clicked + 3) / (shown + 10)
    assert auc(rate[value[~train]], oracle.label[~train]) < 0.56


def test_histories_are_heavy_tailed(logs: Logs, oracle: Oracle) -> None:
    lengths = np.diff(oracle.first)
    assert 1350 < np.median(lengths) < 1650
    assert lengths.max() == logs.counts["longest_history"]
    assert 10_000 < lengths.max() <= 12_000
    assert lengths.mean() > 1.3 * np.median(lengths)


def test_most_planted_interests_are_absent_from_the_latest_100_but_have_left_traces(logs: Logs) -> None:
    planted = pq.read_table(logs.path / "truth" / "interests.parquet")
    matches = pq.read_table(logs.path / "truth" / "matches.parquet").filter(pc.field("click") == 1)
    matches = matches.sort_by([("user_id", "ascending"), ("time", "ascending")])
    user, interest = matches["user_id"].to_numpy(), matches["interest"].to_numpy().astype(np.int64)
    ends = np.searchsorted(user, user, side="right")
    latest = ends - np.arange(len(user)) <= 100
    ever = len(set(zip(user[interest >= 0].tolist(), interest[interest >= 0].tolist(), strict=True)))
    recent = latest & (interest >= 0)
    present = len(set(zip(user[recent].tolist(), interest[recent].tolist(), strict=True)))
    assert 1 - present / len(planted) > 0.6
    assert 1 - present / ever > 0.6
    assert ever / len(planted) > 0.75


def test_interests_come_and_go(logs: Logs) -> None:
    planted = pq.read_table(logs.path / "truth" / "interests.parquet")
    begins, ends = planted["begins"].to_numpy(), planted["ends"].to_numpy()
    assert 0.1 < (begins > begins.min()).mean() < 0.2
    assert 0.1 < (ends < ends.max()).mean() < 0.2
    matches = pq.read_table(logs.path / "truth" / "matches.parquet").filter(pc.field("interest") >= 0)
    life = {
        (user, interest): (first, last)
        for user, interest, first, last in zip(
            *(planted[name].to_pylist() for name in ("user_id", "interest", "begins", "ends")), strict=True
        )
    }
    spans = np.array(
        [life[key] for key in zip(matches["user_id"].to_pylist(), matches["interest"].to_pylist(), strict=True)]
    )
    time = matches["time"].to_numpy()
    assert ((spans[:, 0] <= time) & (time <= spans[:, 1])).all()


def test_play_time_says_how_much_a_click_counted(logs: Logs) -> None:
    matches = pq.read_table(logs.path / "truth" / "matches.parquet")
    keys = ["user_id", "video_id", "time"]
    clicks = logs.events.filter(pc.field("click") == 1).join(
        matches.select([*keys, "interest"]), keys, join_type="inner"
    )
    completion, meant = clicks["completion"].to_numpy(), clicks["interest"].to_numpy() >= 0
    assert np.median(completion[~meant]) < 0.1
    assert np.median(completion[meant]) > 0.5
    assert 0.03 < (~meant).mean() < 0.3  # there are accidental clicks to tell apart


def test_what_was_not_clicked_was_not_played_and_was_shown_for_the_same_reasons(logs: Logs, oracle: Oracle) -> None:
    click = oracle.column("click") == 1
    assert (oracle.column("play_time")[~click] == 0).all()
    assert (oracle.column("completion")[~click] == 0).all()
    negatives = oracle.label == 0
    assert 0.2 < (oracle.matches("topic")[negatives] > 0).mean() < 0.8  # interest-matched and others
    assert 0.2 < oracle.label.mean() < 0.45


def test_counts_are_those_of_the_files(logs: Logs) -> None:
    click, target = logs.events["click"].to_numpy(), logs.events["target"].to_numpy()
    assert logs.counts == {
        "users": 250,
        "items": 24_000,
        "events": len(logs.events),
        "behaviours": int(click.sum()),
        "targets": int(target.sum()),
        "clicked_targets": int((click & target).sum()),
        "longest_history": logs.counts["longest_history"],
    }
    assert logs.counts["targets"] == pytest.approx(30_000, rel=0.15)
    assert len(logs.items) == 24_000
    assert len(set(logs.items["category"].to_pylist())) == 37
    kinds = logs.items.group_by("topic").aggregate([("category", "count_distinct")])
    assert set(kinds["category_count_distinct"].to_pylist()) == {1}
    assert set(logs.events["video_id"].to_pylist()) <= set(logs.items["video_id"].to_pylist())
    assert set(logs.events["user_id"].to_pylist()) == set(logs.users["user_id"].to_pylist())


def test_every_column_of_the_shipped_schema_is_written(logs: Logs) -> None:
    config = load_config("simulated")
    assert config.schema is not None
    assert set(config.schema.event_columns()) <= set(logs.events.column_names)
    assert set(config.schema.item_columns()) <= set(logs.items.column_names)
    assert set(config.schema.user_columns()) <= set(logs.users.column_names)
    assert config.schema.history.max_length >= logs.counts["longest_history"]
    page_positions = logs.events["page_position"].to_numpy()
    size = config.schema.feature("page_position").encoding_or_fail.size
    assert size is not None
    assert page_positions.max() < size


def digests(path: Path) -> dict[str, str]:
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_a_seed_fixes_every_byte(tmp_path: Path) -> None:
    for name, seed in (("first", 7), ("second", 7), ("other", 8)):
        simulate_logs(tmp_path / name, seed=seed, **SMALL)
    first, other = digests(tmp_path / "first"), digests(tmp_path / "other")
    assert sorted(first) == [
        "events.parquet",
        "items.parquet",
        "truth/interests.parquet",
        "truth/matches.parquet",
        "users.parquet",
    ]
    assert first == digests(tmp_path / "second")
    assert all(first[name] != other[name] for name in first)


def test_large_logs_are_cut_into_files_that_hold_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("beam_pipelines.simulate_logs._ROWS_PER_BLOCK", 600)
    simulate_logs(tmp_path / "one", **SMALL)
    monkeypatch.setattr("beam_pipelines.simulate_logs._ROWS_PER_FILE", 800)
    simulate_logs(tmp_path / "many", **SMALL)
    files = sorted((tmp_path / "many").glob("events*.parquet"))
    assert len(files) > 1
    assert files[0].name == "events-00000.parquet"
    together = pa.concat_tables([pq.read_table(file) for file in files])
    assert together.equals(pq.read_table(tmp_path / "one" / "events.parquet"))


def test_no_history_is_longer_than_asked(tmp_path: Path) -> None:
    counts = simulate_logs(tmp_path / "raw", **{**SMALL, "spread": 3.0})
    assert counts["longest_history"] == 200


def test_history_lengths_keep_their_median_and_their_longest() -> None:
    for seed in (1, 2, 3):
        lengths = history_lengths(Simulation(users=500, median_history=900, max_history=5000, seed=seed))
        assert np.median(lengths) == pytest.approx(900, rel=0.02)
        assert lengths.max() == 5000


def test_an_existing_directory_is_kept_and_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(ConfigError, match=r"exists and is not empty; name a new directory or remove it$"):
        simulate_logs(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    (tmp_path / "empty").mkdir()
    assert simulate_logs(tmp_path / "empty", **SMALL)["users"] == 12


def test_a_failed_simulation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("beam_pipelines.simulate_logs.live", fail)
    with pytest.raises(OSError, match="disk full"):
        simulate_logs(tmp_path / "raw", **SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"users": 0}, "simulation: users must be at least 1, not 0"),
        ({"days": 3}, "simulation: days must be at least 10, not 3: interests need time to come and go"),
        (
            {"items": 100, "topics": 50},
            "simulation: topics 50 must be at least 10, and items 100 at least 8 times as many",
        ),
        ({"max_history": 10}, "simulation: max_history 10 must not be below median_history 1500"),
        ({"explore": 1.0}, "simulation: target_share 0.7 and explore 1.0 must lie between 0 and 1"),
        ({"user": 3}, "simulation has an unknown key 'user'; did you mean 'users'?"),
        ({"users": "many"}, "simulation.users must be int, not 'many'"),
    ],
)
def test_wrong_settings_are_refused_in_one_sentence(settings: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        simulate_logs(tmp_path / "raw", **settings)
    assert str(caught.value) == sentence
    assert list(tmp_path.iterdir()) == []
