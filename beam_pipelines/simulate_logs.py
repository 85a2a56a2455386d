"""Raw logs of a made-up video app, any size, with planted life-long interests: `simulated_video_app` tells how.

    twin-tf simulate --output runs/simulated/raw            # or simulate_logs("runs/simulated/raw") from Python

writes what `twin_tf/configs/simulated.yaml` reads:

    events.parquet   one row an impression: user_id, video_id, time (ms since 1970), click, target, feed (0: a slot that
                     explores), play_time (s), completion (play time / duration), page_position; events-00000.parquet,
                     ... above 20 million rows
    items.parquet    video_id, author, topic (1 in 10 is wrong), duration (s), category (some topics each)
    users.parquet    user_id, age_group, device
    truth/           for reports alone; no pipeline reads it:
      interests.parquet  user_id, interest, topic, begins, ends (ms since 1970), weight
      matches.parquet    every click and target: user_id, video_id, time, click, target, interest (-1: none, accident)

`target` marks the impressions to predict: from the last part of the simulated days, mostly slots that explore, where
what is shown does not follow the latest sessions. What came before a target is its history, so histories are long while
the number of targets stays under control.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import Progress

from beam_pipelines.datasets.simulated_video_app import (
    AGE_GROUPS,
    DAY,
    DEVICES,
    LATEST_JOIN,
    Habits,
    Integers,
    Users,
    Videos,
    live,
    make_users,
    make_videos,
)
from twin_tf.core.dataclass_yaml import ConfigError, build
from twin_tf.core.new_directory import new_directory

START_MS = 1_704_067_200_000  # 2024-01-01
_ROWS_PER_FILE = 20_000_000
_ROWS_PER_BLOCK = 500_000  # impressions simulated at a time; part of the format: another value gives other logs
_CLICK_RATE = 0.42  # of the app as a whole, measured; turns a history's length into impressions
_CATEGORIES = 37  # of the paper's app too
_EXPLORING_TARGETS = 0.85  # share of the targets that are slots that explore


@dataclasses.dataclass(frozen=True)
class Simulation:
    """What to simulate.

    Attributes:
        users: number of users.
        days: length of the logs.
        items: number of videos.
        topics: number of topics.
        median_history: behaviours (clicks) of the user in the middle.
        max_history: no user has more behaviours; history lengths are log-normal and cut here.
        spread: sigma of the log-normal history lengths.
        targets: impressions to predict, about this many.
        target_share: share of the days, the last ones, that targets come from.
        explore: share of the slots that explore.
        phase_sessions: sessions after which other interests become current, on average.
        returns: share of the sessions about an interest that is not current.
        filler: share of the feed slots with a popular video, of an interest or not.
        seed: the same seed gives the same bytes.
    """

    users: int = 700
    days: int = 120
    items: int = 24_000
    topics: int = 300
    median_history: int = 1500
    max_history: int = 12_000
    spread: float = 0.95
    targets: int = 250_000
    target_share: float = 0.7
    explore: float = 0.08
    phase_sessions: float = 16
    returns: float = 0.06
    filler: float = 0.15
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("users", "items", "topics", "median_history", "targets"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.days < 10:
            raise ConfigError(f"days must be at least 10, not {self.days}: interests need time to come and go")
        if self.topics < 10 or self.items < 8 * self.topics:
            raise ConfigError(
                f"topics {self.topics} must be at least 10, and items {self.items} at least 8 times as many"
            )
        if self.max_history < self.median_history:
            raise ConfigError(f"max_history {self.max_history} must not be below median_history {self.median_history}")
        if not (0 < self.target_share < 1 and 0 < self.explore < 1):
            raise ConfigError(f"target_share {self.target_share} and explore {self.explore} must lie between 0 and 1")
        if self.phase_sessions < 1:
            raise ConfigError(f"phase_sessions {self.phase_sessions} must be at least 1")
        if not (0 <= self.returns <= 1 and 0 <= self.filler <= 1):
            raise ConfigError(f"returns {self.returns} and filler {self.filler} must lie from 0 to 1")


def simulate_logs(output_dir: str | Path, **settings: Any) -> dict[str, int]:
    """Writes the logs of a simulation into a directory that appears only when it is complete.

    Args:
        output_dir: a new or empty directory.
        settings: fields of `Simulation` to change.

    Returns:
        Counts: `users`, `items`, `events`, `behaviours`, `targets`, `clicked_targets`, `longest_history`.

    Raises:
        ConfigError: the directory is not empty, or a setting is unknown, of the wrong type or out of range.
    """
    plan = build(Simulation, settings, "simulation")
    with new_directory(output_dir) as building:
        (building / "truth").mkdir()
        return _write(building, plan)


def history_lengths(plan: Simulation) -> Integers:
    """Expected behaviours per user: evenly spaced quantiles of the log-normal, cut at both ends, in random order."""
    tail = np.sort(np.random.default_rng([plan.seed, 0]).normal(size=20_001))
    normal = tail[((np.arange(plan.users) + 0.5) / plan.users * len(tail)).astype(np.int64)]
    lengths = plan.median_history * np.exp(plan.spread * (normal - np.median(tail)))
    lengths = np.clip(lengths, min(20, plan.median_history), plan.max_history)
    return np.random.default_rng([plan.seed, 1]).permutation(lengths).astype(np.int64)


def _write(work: Path, plan: Simulation) -> dict[str, int]:
    videos = make_videos(np.random.default_rng([plan.seed, 2]), plan.items, plan.topics, plan.days)
    _save(work / "items.parquet", _item_rows(np.random.default_rng([plan.seed, 3]), videos))
    impressions = np.maximum((history_lengths(plan) / _CLICK_RATE).astype(np.int64), 1)
    user_ids = np.cumsum(np.random.default_rng([plan.seed, 4]).integers(1, 100, plan.users)) + 10_000
    expected = float(impressions.sum()) * plan.target_share / (1 - LATEST_JOIN / 2)  # who joins late is denser later
    rates = (  # a target's chance, for a feed slot and for a slot that explores
        min(1.0, (1 - _EXPLORING_TARGETS) * plan.targets / (expected * (1 - plan.explore))),
        min(1.0, _EXPLORING_TARGETS * plan.targets / (expected * plan.explore)),
    )
    habits = Habits(plan.explore, plan.phase_sessions, plan.returns, plan.filler)
    counts = dict.fromkeys(("events", "behaviours", "targets", "clicked_targets", "longest_history"), 0)
    users_log, interests, matches = [], [], []
    with _EventFiles(work) as files, Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("Simulating impressions", total=int(impressions.sum()))
        for number, (start, stop) in enumerate(_blocks(impressions)):
            random = np.random.default_rng([plan.seed, 5, number])
            users = make_users(random, videos, stop - start, plan.days)
            log = live(random, videos, users, impressions[start:stop], plan.days, habits)
            log = _latest(log, plan.max_history)
            in_window = log["seconds"] >= plan.days * DAY * (1 - plan.target_share)
            target = in_window & (random.random(len(in_window)) < np.asarray(rates)[log["explores"].astype(int)])
            ids, clicks = user_ids[start:stop], log["click"]
            events = _event_rows(videos, ids, log, target)
            files.write(events)
            users_log.append(_user_rows(ids, users))
            interests.append(_interest_rows(ids, users))
            told = pa.array(clicks | target)
            named = events.select(["user_id", "video_id", "time", "click", "target"]).filter(told)
            matches.append(named.append_column("interest", pa.array(log["interest"], pa.int8()).filter(told)))
            counts["events"] += len(target)
            counts["behaviours"] += int(clicks.sum())
            counts["targets"] += int(target.sum())
            counts["clicked_targets"] += int((target & clicks).sum())
            longest = int(np.bincount(log["user"], weights=clicks).max())
            counts["longest_history"] = max(counts["longest_history"], longest)
            progress.advance(task, int(impressions[start:stop].sum()))
    _save(work / "users.parquet", pa.concat_tables(users_log))
    _save(work / "truth" / "interests.parquet", pa.concat_tables(interests))
    _save(work / "truth" / "matches.parquet", pa.concat_tables(matches))
    return {"users": plan.users, "items": plan.items, **counts}


def _latest(log: dict[str, Any], behaviours: int) -> dict[str, Any]:
    """Drops what comes before a user's latest so many behaviours: the logs of such a user start later."""
    clicks = log["click"].astype(np.int64)
    so_far = np.cumsum(clicks)
    ends = np.append(np.flatnonzero(np.diff(log["user"])), len(clicks) - 1)
    from_here = so_far[ends][log["user"]] - so_far + clicks
    return {name: values[from_here <= behaviours] for name, values in log.items()}


def _blocks(impressions: Integers) -> Iterator[tuple[int, int]]:
    """Neighbouring users whose impressions together first exceed `_ROWS_PER_BLOCK`, as half-open ranges."""
    block = np.cumsum(impressions) // _ROWS_PER_BLOCK
    edges = [0, *(np.flatnonzero(np.diff(block)) + 1).tolist(), len(impressions)]
    yield from zip(edges[:-1], edges[1:], strict=True)


class _EventFiles:
    """Writes event tables to one file, or to several once there are many rows."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._writer: pq.ParquetWriter | None = None
        self._rows = 0
        self._files = 0

    def __enter__(self) -> "_EventFiles":
        return self

    def __exit__(self, *error: object) -> None:
        if self._writer is not None:
            self._writer.close()
        if self._files == 1:
            (self._directory / "events-00000.parquet").rename(self._directory / "events.parquet")

    def write(self, table: pa.Table) -> None:
        if self._writer is None or self._rows + len(table) > _ROWS_PER_FILE:
            if self._writer is not None:
                self._writer.close()
            path = self._directory / f"events-{self._files:05d}.parquet"
            self._writer = pq.ParquetWriter(path, table.schema, compression="zstd")
            self._files += 1
            self._rows = 0
        self._writer.write_table(table)
        self._rows += len(table)


def _milliseconds(seconds: Any) -> Integers:
    return START_MS + np.floor(np.asarray(seconds) * 1000).astype(np.int64)


def _event_rows(videos: Videos, user_ids: Integers, log: dict[str, Any], target: Any) -> pa.Table:
    return pa.table(
        {
            "user_id": user_ids[log["user"]],
            "video_id": videos.video_id[log["row"]],
            "time": _milliseconds(log["seconds"]),
            "click": log["click"].astype(np.int8),
            "target": target.astype(np.int8),
            "feed": (~log["explores"]).astype(np.int8),
            "play_time": log["play_time"].astype(np.float32),
            "completion": log["completion"].astype(np.float32),
            "page_position": log["page_position"].astype(np.int8),
        }
    )


def _item_rows(random: np.random.Generator, videos: Videos) -> pa.Table:
    """The catalogue as the log shows it: in no telling order, topics under arbitrary names, in arbitrary categories."""
    order = np.argsort(videos.video_id)
    names = random.permutation(videos.topic_weight.shape[1])[videos.logged_topic[order]]
    return pa.table(
        {
            "video_id": videos.video_id[order],
            "author": videos.author[order],
            "topic": [f"topic {name:03d}" for name in names],
            "duration": videos.duration[order],
            "category": [f"category {name % _CATEGORIES:02d}" for name in names],
        }
    )


def _user_rows(ids: Integers, users: Users) -> pa.Table:
    age_group = [AGE_GROUPS[one] for one in users.age_group]
    return pa.table({"user_id": ids, "age_group": age_group, "device": [DEVICES[one] for one in users.device]})


def _interest_rows(ids: Integers, users: Users) -> pa.Table:
    user, interest = np.nonzero(users.topic >= 0)
    return pa.table(
        {
            "user_id": ids[user],
            "interest": interest.astype(np.int8),
            "topic": users.topic[user, interest],
            "begins": _milliseconds(users.begins[user, interest]),
            "ends": _milliseconds(users.ends[user, interest]),
            "weight": users.weight[user, interest],
        }
    )


def _save(path: Path, table: pa.Table) -> None:
    pq.write_table(table, path, compression="zstd")
