"""Prepared data of two days, the second grown from the first with `previous`, and a run trained on the first.

New on the second day: videos of known authors, videos of new authors, and users with an age group that was unknown.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_pipelines.build_examples import build_examples
from tests.twin_tf.built_once import built_once
from tests.twin_tf.small_run import small_config, small_logs
from twin_tf.config import Config
from twin_tf.features.schema import FeatureSchema
from twin_tf.records.format import Manifest
from twin_tf.training.train import train_model

FRESH_AGE_GROUP = "25-34"


def config_of(manifest: Manifest, *overrides: str) -> Config:
    """The small configuration with a short-term block, for prepared data of a day."""
    config = small_config("training.epochs=1", "serving.probes=30", "model.short_term_length=10", *overrides)
    return dataclasses.replace(config, schema=manifest.schema)


@built_once
def logs_by_day(root: Path) -> tuple[dict[str, str], dict[str, str], list[int]]:
    """The arguments of `build_examples` for either day, and target times: where each day is split, and the midnight."""
    whole = {log: pq.read_table(pattern.replace("*", "")) for log, pattern in small_logs(root).items()}
    times = np.sort(whole["events"].filter(pc.equal(whole["events"]["target"], 1))["time"].to_numpy())
    timestamps = [int(times[int(share * len(times))]) for share in (0.4, 0.45, 0.5, 0.85, 0.92)]
    videos, midnight = whole["items"], timestamps[2]
    authors = np.unique(videos["author"].to_numpy())
    fresh = np.isin(videos["author"].to_numpy(), authors[::7]) | (videos["video_id"].to_numpy() % 5 == 0)
    fresh_videos = videos["video_id"].filter(fresh)
    fresh_users = whole["users"].filter(pc.equal(whole["users"]["age_group"], FRESH_AGE_GROUP))["user_id"]
    events = whole["events"]
    early = pc.less(events["time"], midnight)
    unknown = pc.or_(pc.is_in(events["video_id"], fresh_videos), pc.is_in(events["user_id"], fresh_users))
    known_users = pc.invert(pc.is_in(whole["users"]["user_id"], fresh_users))
    first = {
        "events": events.filter(pc.and_(early, pc.invert(unknown))),
        "items": videos.filter(~fresh),
        "users": whole["users"].filter(known_users),
    }
    second = {
        "events": events.filter(pc.invert(early)),
        "items": videos.filter(fresh),
        "users": whole["users"].filter(pc.invert(known_users)),
    }
    arguments = []
    for name, tables in (("first", first), ("second", second)):
        (root / "days" / name).mkdir(parents=True)
        for log, table in tables.items():
            pq.write_table(table, root / "days" / name / f"{log}.parquet")
        arguments.append({log: str(root / "days" / name / f"{log}.parquet") for log in tables})
    return arguments[0], arguments[1], timestamps


def _schema(valid_from: int, test_from: int) -> FeatureSchema:
    schema = small_config().schema
    assert schema is not None
    return dataclasses.replace(
        schema, split=dataclasses.replace(schema.split, valid_from=valid_from, test_from=test_from)
    )


@built_once
def first_day(root: Path) -> Manifest:
    """Prepared data of the first day."""
    logs, _, timestamps = logs_by_day(root)
    return build_examples(_schema(*timestamps[:2]), **logs, output=root / "days/prepared-1", shards=1, progress=False)


@built_once
def second_day(root: Path) -> Manifest:
    """Prepared data of the second day, grown from the first."""
    _, logs, timestamps = logs_by_day(root)
    first = first_day(root).directory
    output = root / "days/prepared-2"
    return build_examples(_schema(*timestamps[3:]), **logs, output=output, previous=first, shards=1, progress=False)


@built_once
def second_day_alone(root: Path) -> Manifest:
    """Prepared data of the second day without the first: vocabularies have another order and lack old values."""
    _, logs, timestamps = logs_by_day(root)
    whole = small_logs(root)
    videos = pq.read_table(whole["items"].replace("*", ""))
    items = root / "days/videos-that-are-left.parquet"
    pq.write_table(videos.filter(videos["video_id"].to_numpy() % 3 != 0), items)
    arguments = {"events": logs["events"], "items": str(items), "users": whole["users"]}
    return build_examples(_schema(*timestamps[3:]), **arguments, output=root / "days/alone", shards=1, progress=False)


@built_once
def first_run(root: Path) -> Path:
    """A run trained on the first day."""
    manifest = first_day(root)
    train_model(manifest.directory, root / "days/run-1", config_of(manifest))
    return root / "days/run-1"
