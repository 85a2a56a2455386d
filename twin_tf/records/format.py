"""What lies in a directory of prepared data: the keys of a record, and the manifest that lists its files.

Shared by `beam_pipelines`, which writes them, and by the trainer, which reads them; imports no TensorFlow. Readers open
what the manifest lists, never a glob.

A record is a `tf.train.Example` for one stretch of one user's history and the targets that attend to it. Arrays are
packed whole numbers (`twin_tf.records.packing`), oldest first; the manifest's `widths` say how many bytes a value
takes. With n behaviours and m targets:

| key | content |
|---|---|
| `user/id`, `user/<user feature>` | int64, int64 index; in `histories/` of features counted of the user too |
| `history/length`, `target/length` | int64 n, int64 m |
| `history/total` | in `histories/`: int64, the user's behaviours ever, of which n are the latest |
| `history/item`, `target/item` | n, m rows of `items/` |
| `history/time`, `target/time` | n, m times, minus the manifest's `time_origin` |
| `history/<stored cross feature>` | n indices |
| `value/<stored cross feature>` | where the schema keeps values: n numbers, the bits of a float32 each |
| `history/count` | where the schema's histories are clustered: n sizes of clusters |
| `target/label` | m numbers, 0 or 1 |
| `target/weight` | where the schema weighs targets: m numbers, the bits of a float32 each |
| `target/request` | where the schema names requests: m ids above 0, or 0 for none |
| `target/history_end` | m numbers: behaviours of this record that are strictly earlier than the target |
| `target/<stored context or candidate feature>` | m indices |
| `pending/<stored cross feature>` | in `histories/`, where needed: n places in `state/pending.json` |

A place in `state/pending.json` counts from 1, 0 is none: the value is too rare yet; the next incremental run needs it.

Example:
    >>> manifest = Manifest.load("prepared")
    >>> manifest.shard_paths("train")[0].name
    'part-00000-of-00008.tfrecord'
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from twin_tf.core.buckets import BucketPath, file_size, in_parallel, is_url
from twin_tf.core.dataclass_yaml import ConfigError, build, nearest
from twin_tf.core.digests import check_content, check_files, say_unchecked
from twin_tf.core.mirrors import copy_of_listed, place_of
from twin_tf.core.tfrecord import ends_of_file
from twin_tf.core.yaml_text import parse_json
from twin_tf.features.schema import FeatureSchema, SplitBy, load_schema
from twin_tf.records.cluster_source import ClusterSource

FORMAT = 2

SplitName = Literal["train", "valid", "test", "histories"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)
TARGET_SPLITS = SPLITS[:3]

USER_ID = "user/id"
HISTORY_LENGTH = "history/length"
HISTORY_TOTAL = "history/total"
HISTORY_ITEM = "history/item"
HISTORY_TIME = "history/time"
HISTORY_COUNT = "history/count"
TARGET_LENGTH = "target/length"
TARGET_ITEM = "target/item"
TARGET_TIME = "target/time"
TARGET_LABEL = "target/label"
TARGET_WEIGHT = "target/weight"
TARGET_REQUEST = "target/request"
TARGET_HISTORY_END = "target/history_end"

MANIFEST = "manifest.json"
SUCCESS = "_SUCCESS"
SCHEMA = "schema.yaml"
ITEMS = "items/items.parquet"
PENDING = "state/pending.json"
STATE_ITEMS = "state/items.parquet"

COPY_ANEW = "copy it anew or preprocess again"
"""What to do about a damaged file, for messages."""

PREPARE_AGAIN = f"{COPY_ANEW}; --no-verify reads it as it is"


def user_key(feature: str) -> str:
    """The record's key of a user feature."""
    return f"user/{feature}"


def history_key(feature: str) -> str:
    """The record's key of a stored cross feature."""
    return f"history/{feature}"


def value_key(feature: str) -> str:
    """The record's key of the raw numbers of a stored cross feature."""
    return f"value/{feature}"


def target_key(feature: str) -> str:
    """The record's key of a stored context feature or a candidate feature."""
    return f"target/{feature}"


def pending_key(feature: str) -> str:
    """The record's key of the values of a cross feature that no vocabulary holds yet."""
    return f"pending/{feature}"


@dataclasses.dataclass(frozen=True)
class Shard:
    """One TFRecord file.

    Attributes:
        name: path below the prepared directory, with forward slashes.
        bytes: size of the file.
        sha256: hex digest of the file.
        records: records in it.
        targets: targets in them.
        events: behaviours stored in them.
        longest: behaviours of the longest record.
        ends_sha256: see `twin_tf.core.tfrecord.digest_of_ends`; empty in data of earlier code.
    """

    name: str
    bytes: int
    sha256: str
    records: int
    targets: int
    events: int
    longest: int
    ends_sha256: str = ""


@dataclasses.dataclass(frozen=True)
class SplitTimes:
    """Targets before `valid_from` train, before `test_from` validate, the others test; in the unit of the logs.

    Targets less than `gap` before either moment belong to no split. In data that are not split by time both moments lie
    after the last event: training may have seen any moment.
    """

    valid_from: int
    test_from: int
    gap: int = 0
    by: SplitBy = "time"

    @property
    def train_until(self) -> int:
        """The moment at which the training window ends."""
        return self.valid_from - self.gap

    def numbers(self, times: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The place in `SPLITS` of targets shown at `times`, -1 in a gap; same shape."""
        starts = np.array([self.valid_from, self.test_from])
        number = np.searchsorted(starts, times, side="right")
        return np.where(number < np.searchsorted(starts - self.gap, times, side="right"), -1, number)


@dataclasses.dataclass(frozen=True)
class Counts:
    """What went in and what came out; `events_read` = `events_kept` + `events_filtered` + `events_dead`, exactly.

    Attributes:
        events_read: rows (or lines) of the events log.
        events_kept: those that are a behaviour, a target or both.
        events_filtered: sound rows that are neither, and duplicates.
        events_dead: rows in `dead_letters/`.
        users: users with a record in `histories/`.
        items: rows of the catalogue.
        behaviours: kept events that are behaviours.
        targets: split -> targets.
        events_duplicated: those of `events_filtered` that were dropped because another row has their user, item, time.
        events_late: kept events that are not later than the previous run's last.
        targets_in_gaps: targets that no split has because of `split.gap`.
        items_read: rows of the items log.
        items_dead: rows of the items log in `dead_letters/`.
        items_duplicated: sound rows of the items log whose id another row has too.
        users_read: rows of the users log.
        users_dead: rows of the users log in `dead_letters/`.
    """

    events_read: int
    events_kept: int
    events_filtered: int
    events_dead: int
    users: int
    items: int
    behaviours: int
    targets: Mapping[str, int]
    events_duplicated: int = 0
    events_late: int = 0
    targets_in_gaps: int = 0
    items_read: int = 0
    items_dead: int = 0
    items_duplicated: int = 0
    users_read: int = 0
    users_dead: int = 0


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The content of `manifest.json`.

    Attributes:
        schema_fingerprint: of the schema that the data were made with.
        split: the moments between the splits.
        counts: rows in, rows out.
        splits: split (`histories` too) -> its shards, in order.
        cardinalities: feature -> rows of its embedding table, padding and unknown included; derived features too.
        widths: packed key -> bytes a value, see `twin_tf.records.packing`.
        time_origin: what times in records count from.
        last_time: of the latest event.
        files: every other file that is read again -> sha256; pages and figures for people are not listed.
        clusters: where the histories are clustered, of what.
        clicks: split -> clicked targets; empty in data of earlier code.
        format: of the directory's layout.
        directory: where the files lie that are no shards: where it was loaded from, or a copy; not stored.
        origin: the bucket that it was loaded from, where the shards lie; empty: `directory`. Not stored.
    """

    schema_fingerprint: str
    split: SplitTimes
    counts: Counts
    splits: Mapping[str, tuple[Shard, ...]]
    cardinalities: Mapping[str, int]
    widths: Mapping[str, int]
    time_origin: int
    last_time: int
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    clusters: ClusterSource | None = None
    clicks: Mapping[str, int] = dataclasses.field(default_factory=dict)
    format: int = FORMAT
    directory: str = ""
    origin: str = ""

    @classmethod
    def load(cls, directory: str | Path, *, verify: bool = True) -> "Manifest":
        """Reads the manifest of a finished directory, and checks every file that it lists but the shards.

        Shards are checked when they are read: their names and ends by `shard_paths`, every record by its CRC.

        Args:
            directory: prepared data, local or in a bucket; of those in a bucket all but the shards is copied.
            verify: whether to compare SHA-256.

        Raises:
            ConfigError: no such directory, no prepared data in it, a run that did not finish, or a damaged file.
        """
        root = copy_of_listed(directory, (MANIFEST, SUCCESS, SCHEMA)) if is_url(directory) else Path(directory)
        place = place_of(root)
        if not root.is_dir():
            raise ConfigError(f"no prepared data: {place} is not a directory; run `twin-tf preprocess` first")
        if not (root / MANIFEST).is_file():
            raise ConfigError(f"{place} is not prepared data: it has no {MANIFEST}; run `twin-tf preprocess` first")
        if not (root / SUCCESS).is_file():
            raise ConfigError(f"{place} is not finished: it has no {SUCCESS}; run `twin-tf preprocess` into a new one")
        content = (root / MANIFEST).read_bytes()
        if verify:
            check_manifest(content, (root / SUCCESS).read_bytes(), place)
        origin = place if is_url(directory) else ""
        manifest = dataclasses.replace(cls.from_json(content, place), directory=str(root), origin=origin)
        if verify:
            check_files(root, manifest.files, MANIFEST, PREPARE_AGAIN)
        return manifest

    @classmethod
    def from_json(cls, text: str | bytes, directory: str) -> "Manifest":
        """Reads the text of a `manifest.json` that lies in `directory`.

        Raises:
            ConfigError: it is no manifest, or one of another format.
        """
        place = f"{directory}/{MANIFEST}"
        data = parse_json(text, place)
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            found = data.get("format") if isinstance(data, dict) else data
            raise ConfigError(f"{place} has format {found!r}, this version reads {FORMAT}; preprocess again")
        return build(cls, {**data, "directory": directory}, place)

    def check_content(self, name: str, content: bytes, root: str) -> None:
        """Compares a file of `files` that was read from `root`, on whatever file system, with its digest.

        Raises:
            ConfigError: it is damaged.
        """
        if name in self.files:
            check_content(content, self.files[name], f"{root}/{name}", MANIFEST, PREPARE_AGAIN)

    @property
    def place(self) -> str:
        """Where the data lie, for people and for whoever is to load them again."""
        return self.origin or self.directory

    @property
    def label_of_all(self) -> int | None:
        """The label that every target of the train split has; None: it has both, no target, or nobody counted."""
        targets, clicks = self.counts.targets.get("train", 0), self.clicks.get("train")
        return {0: 0, targets: 1}.get(clicks) if targets and clicks is not None else None

    def to_json(self) -> str:
        """The text of `manifest.json`; of data of earlier code as that code wrote it, since runs record its digest."""
        plain: dict[str, Any] = dataclasses.asdict(self)
        del plain["directory"], plain["origin"]
        if plain["split"]["by"] == "time":
            del plain["split"]["by"]
        if not plain["clicks"]:
            del plain["clicks"]
        for shard in (shard for shards in plain["splits"].values() for shard in shards if not shard["ends_sha256"]):
            del shard["ends_sha256"]
        return json.dumps(plain, indent=1, sort_keys=True) + "\n"

    @property
    def sha256(self) -> str:
        """Of `to_json`: which data these are."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @cached_property
    def schema(self) -> FeatureSchema:
        """The schema beside the manifest.

        Raises:
            ConfigError: it cannot be read, or is not the one that the data were made with.
        """
        schema = load_schema(Path(self.directory) / SCHEMA)
        if schema.fingerprint != self.schema_fingerprint:
            raise ConfigError(
                f"{self.place}/{SCHEMA} has fingerprint {schema.fingerprint}, the manifest says "
                f"{self.schema_fingerprint}: it was edited after the data were made; preprocess again"
            )
        return schema

    def check_schema(self, schema: FeatureSchema | None) -> None:
        """Whether the data were made with a configuration's schema; None, of a configuration without one, will do.

        Raises:
            ConfigError: they were not.
        """
        own = self.schema
        if schema is not None and not schema.clustered(own.history.clustered).trains_like(own):
            raise ConfigError(
                f"{self.place} was prepared with another schema than the configuration holds; preprocess again"
            )

    def shards(self, split: str) -> tuple[Shard, ...]:
        """The shards of a split, in order.

        Raises:
            ConfigError: no such split.
        """
        if split not in self.splits:
            raise ConfigError(f"no split {split!r}{nearest(split, self.splits)}")
        return tuple(self.splits[split])

    def shard_paths(self, split: str) -> list[Path | BucketPath]:
        """Where the shards of a split lie, in order.

        Raises:
            ConfigError: no such split, or a shard is missing or not as the manifest says; in a bucket looked at once.
        """
        root = BucketPath(self.origin) if self.origin else Path(self.directory)
        if split not in self._looked_at:
            in_parallel(lambda shard: _check_shard(root / shard.name, shard), self.shards(split))
        self._looked_at.update([split] if self.origin else ())
        return [root / shard.name for shard in self.shards(split)]

    _looked_at = cached_property(lambda self: set[str]())
    """The splits whose shards in a bucket have been checked."""


def _check_shard(path: Path | BucketPath, shard: Shard) -> None:
    if (size := file_size(path)) is None:
        raise ConfigError(f"{path} is missing, but {MANIFEST} lists it; preprocess again")
    if size != shard.bytes:
        raise ConfigError(f"{path} has {size} bytes, {MANIFEST} says {shard.bytes}; preprocess again")
    if shard.ends_sha256 and ends_of_file(path) != shard.ends_sha256:
        raise ConfigError(
            f"{path} is not the file that {MANIFEST} lists under this name: it was exchanged or damaged; {COPY_ANEW}"
        )


def check_manifest(content: bytes, success: bytes, root: str) -> None:
    """Compares a manifest with its digest, which `_SUCCESS` holds; a warning where that of earlier code is empty.

    Args:
        content: of `manifest.json`.
        success: of `_SUCCESS`.
        root: where they lie.

    Raises:
        ConfigError: either is damaged.
    """
    if not success:
        say_unchecked(f"{root}/{MANIFEST}")
        return
    noted = success.decode("ascii", "replace").strip()
    check_content(content, noted, f"{root}/{MANIFEST}", SUCCESS, PREPARE_AGAIN)
