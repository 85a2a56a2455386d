"""Sections of the schema that say which events count as what: behaviours, targets, and the split of targets."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.features.negatives import Negatives

LONGEST_HISTORY = 1_000_000

SplitBy = Literal["time", "user_time", "user", "column"]


@dataclasses.dataclass(frozen=True)
class History:
    """Which events are behaviours, and how many a target may attend to.

    Attributes:
        where: column -> allowed values; an event is a behaviour if every column holds one of its values.
        max_length: a target sees at most its latest `max_length` behaviours (the paper's L; 10^4, cap 10^5); of
            clustered ones so many before the clustering, and all that came since.
        clustered: an entry of a history may stand for a cluster of behaviours, and records and requests say how many
            (TWIN-V2). Only `twin-tf cluster` writes such records.
    """

    where: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    max_length: int = 10_000
    clustered: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.max_length <= LONGEST_HISTORY:
            raise ConfigError(f"max_length must lie between 1 and {LONGEST_HISTORY}, not {self.max_length}")


@dataclasses.dataclass(frozen=True)
class Targets:
    """Which events are predicted.

    Attributes:
        where: column -> allowed values; an event is a target if every column holds one of its values.
        per_record: how many share one record (one stretch of a user's history).
        weight: column of how much a target counts in the loss, a number from 0 on; every target counts 1 without it.
        negatives: how targets without a click are drawn, where the log holds only what people did.
    """

    where: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    per_record: int = 64
    weight: str | None = None
    negatives: Negatives | None = None

    def __post_init__(self) -> None:
        if self.per_record < 1:
            raise ConfigError(f"per_record must be at least 1, not {self.per_record}")


@dataclasses.dataclass(frozen=True)
class Split:
    """Which targets train, validate and test.

    Attributes:
        by: `time`: the first `train` share of all targets trains, the next `valid` share validates, the rest tests;
            `user_time`: the same for each user's targets; `user`: the same for the users, by a hash of their ids;
            `column`: each event says it itself.
        train: share of the targets (of the users) that train.
        valid: share that validates.
        valid_from: the moment (in the unit of the logs) at which validation begins; overrides the shares.
        test_from: the moment at which testing begins; goes with `valid_from`.
        gap: seconds before each of the two moments whose targets belong to no split, so that what is learnt late in one
            split cannot echo in the next; their events stay behaviours.
        column: of the events log, with `by: column`: `train`, `valid` or `test` in each target's row.
    """

    by: SplitBy = "time"
    train: float = 0.8
    valid: float = 0.1
    valid_from: int | None = None
    test_from: int | None = None
    gap: int = 0
    column: str | None = None

    def __post_init__(self) -> None:
        if (self.by == "column") != (self.column is not None):
            raise ConfigError("by: column and column go together: column names the column that holds the split")
        if self.by != "time" and (self.valid_from is not None or self.test_from is not None or self.gap):
            raise ConfigError(f"valid_from, test_from and gap are for by: time, not for by: {self.by}; leave them out")
        if self.by == "column" and (self.train, self.valid) != (Split.train, Split.valid):
            raise ConfigError("train and valid are shares, and with by: column the column decides; leave them out")
        if not (0 < self.train < 1 and 0 <= self.valid < 1 and self.train + self.valid <= 1):
            raise ConfigError(f"shares train={self.train}, valid={self.valid} must be positive and add up to at most 1")
        if self.gap < 0:
            raise ConfigError(f"gap must not be negative, not {self.gap}")
        if (self.valid_from is None) != (self.test_from is None):
            raise ConfigError("valid_from and test_from go together: give both or neither")
        if self.valid_from is not None and self.test_from is not None and self.valid_from > self.test_from:
            raise ConfigError(f"valid_from {self.valid_from} must not be later than test_from {self.test_from}")
