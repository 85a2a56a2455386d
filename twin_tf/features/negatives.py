"""Negatives that the pipeline draws, for logs that hold only what people did: purchases, plays."""

import dataclasses
from typing import Literal

from twin_tf.core.dataclass_yaml import ConfigError

MOST_A_POSITIVE = 1000


@dataclasses.dataclass(frozen=True)
class Negatives:
    """How targets without a click are drawn for each target with one.

    They have the positive's user, time, request, weight, split and context, and an item that has events on an earlier
    day (UTC) and is none of the same request; of the same user and time, where no request is named.

    Attributes:
        per_positive: how many for each; of fewer items all.
        by: `popularity`: in proportion to the item's events on earlier days; `uniform`: all of these items alike.
        seed: of the draws, which depend on it, the positive and the items alone.
    """

    per_positive: int
    by: Literal["popularity", "uniform"] = "popularity"
    seed: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.per_positive <= MOST_A_POSITIVE:
            raise ConfigError(f"per_positive must lie between 1 and {MOST_A_POSITIVE}, not {self.per_positive}")
        if not 0 <= self.seed < 1 << 63:
            raise ConfigError(f"seed must be a whole number from 0 on, below 2^63, not {self.seed}")
