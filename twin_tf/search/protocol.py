"""What a search strategy gets and gives."""

import abc
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from twin_tf.keras_api import tf
from twin_tf.layers.gsu import Finalists


class SearchInputs(NamedTuple):
    """What a strategy may look at; behaviours are columns, newest first (`twin_tf.layers.sight`).

    Attributes:
        relevance: computes the ESU's own metric for every column, without gradient: float `(heads, B, C, W)`,
            `MASKED_SCORE` where a behaviour is not in sight. A function, so that strategies that do not need it pay
            nothing.
        first: int32 `(B, C)` or `(B, 1)`, the newest column that each target sees.
        stop: int32 like `first`, the column after the oldest that it sees.
        width: the number of columns that some user needs; columns behind it are padding.
    """

    relevance: Callable[[], tf.Tensor]
    first: tf.Tensor
    stop: tf.Tensor
    width: tf.Tensor


class SearchStrategy(abc.ABC):
    """Chooses the finalists of every target.

    Args:
        retrieved: K, how many.
        history_length: L, how many of the latest behaviours are in sight.
    """

    name: ClassVar[str]
    """What configurations call it."""

    def __init__(self, retrieved: int, history_length: int) -> None:
        self.retrieved = retrieved
        self.history_length = history_length

    @property
    def window(self) -> int:
        """How many of the latest behaviours the strategy looks at; readers may drop everything older."""
        return self.history_length

    @abc.abstractmethod
    def find(self, inputs: SearchInputs) -> Finalists:
        """The finalists, `(B, C, K)` or `(B, 1, K)` where they do not depend on the target."""

    def get_config(self) -> dict[str, Any]:
        """The arguments of `make_search` that make the same strategy."""
        return {"name": self.name, "retrieved": self.retrieved, "history_length": self.history_length}
