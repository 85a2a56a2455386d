"""What a search strategy gets and gives.

Most strategies retrieve behaviours, some by a score of every behaviour (`ScoredSearch`). Others
(`PoolingSearch`) choose
none: they pool the whole history into a few entries, and the ESU attends to those.
"""

import abc
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from twin_tf.core.keras_api import keras, tf
from twin_tf.layers.gsu import Retrieved, top_columns
from twin_tf.layers.masking import MASKED_SCORE

if TYPE_CHECKING:
    from twin_tf.config import ModelConfig
    from twin_tf.features.schema import FeatureSchema

Vectors = npt.NDArray[np.float32]


class SearchInputs(NamedTuple):
    """What a strategy may look at; behaviours are columns, newest first (`twin_tf.layers.visibility`).

    Attributes:
        relevance: computes the ESU's own metric for every column, without gradient: float `(heads, B, C, W)`,
            `MASKED_SCORE` where a behaviour is not visible. A function, so that strategies that do not need it pay
            nothing.
        first: int32 `(B, C)` or `(B, 1)`, the newest column that each target sees.
        stop: int32 like `first`, the column after the oldest that it sees.
        width: the number of columns that some user needs; columns behind it are padding.
        behaviour: item rows of the columns, int32 `(B, W)`.
        count: float `(B, W)`, how many behaviours each column stands for: 1, or the size of a cluster.
        target: item rows of the targets, int32 `(B, C)`.
        embed: item rows to K_h of eq. 6, with gradient: float `(..., H)`.
        features: item rows to their feature indices: int32 `(..., columns)`, see `FeatureSchema.inherent_slices`.
        vectors: item rows to what the strategy keeps of each item (`SearchStrategy.item_state`): float `(..., n)`.
        floor: float `(heads, B, C)`, the null key's relevance, below which a head has no use for a behaviour; or None.
    """

    relevance: Callable[[], tf.Tensor]
    first: tf.Tensor
    stop: tf.Tensor
    width: tf.Tensor
    behaviour: tf.Tensor
    count: tf.Tensor
    target: tf.Tensor
    embed: Callable[[tf.Tensor], tf.Tensor]
    features: Callable[[tf.Tensor], tf.Tensor]
    vectors: Callable[[tf.Tensor], tf.Tensor]
    floor: tf.Tensor | None = None

    def visible(self) -> tf.Tensor:
        """Which columns each target sees: bool `(B, C, W)`, or `(B, 1, W)` where it is the same for all."""
        column = tf.range(tf.shape(self.behaviour)[1])
        return (column >= self.first[..., None]) & (column < self.stop[..., None])


class SearchStrategy(abc.ABC):
    """Retrieves behaviours for every target.

    Args:
        top_k: K, how many.
        history_length: L, how many of the latest behaviours are visible.
    """

    name: ClassVar[str]
    """What configurations call it."""

    needs_embeddings: ClassVar[bool] = False
    """Whether it searches by frozen item embeddings."""

    learns: ClassVar[bool] = False
    """Whether it has weights of its own."""

    uses_random_projection: ClassVar[bool] = False
    """Whether its graph holds a random projection that `training.seed` decides."""

    layer: keras.layers.Layer | None = None
    """Holds the strategy's own weights, if it has any."""

    def __init__(self, top_k: int, history_length: int) -> None:
        self.top_k = top_k
        self.history_length = history_length

    @classmethod
    def arguments(cls, config: "ModelConfig", schema: "FeatureSchema", width: int, seed: int) -> Mapping[str, Any]:
        """What else the constructor takes.

        Args:
            config: the network's settings.
            schema: the feature schema.
            width: H, of K_h in eq. 6.
            seed: of random choices.

        Raises:
            ConfigError: a setting that the strategy needs is missing or wrong.
        """
        return {}

    @property
    def window(self) -> int:
        """How many of the latest behaviours the strategy looks at; readers may drop everything older."""
        return self.history_length

    @abc.abstractmethod
    def find(self, inputs: SearchInputs) -> Retrieved:
        """The retrieved behaviours, `(B, C, K)` or `(B, 1, K)` where they do not depend on the target."""

    @classmethod
    def item_state(cls, vectors: Vectors, config: "ModelConfig", seed: int) -> Vectors | None:
        """What the strategy keeps of each item, made of frozen item embeddings.

        Args:
            vectors: float32 `(items, width)` by item row, zero where nothing is known; see
            `twin_tf.runs.item_embeddings`.
            config: the network's settings.
            seed: of random choices.

        Returns:
            float32 `(items, n)`; None where the strategy needs no such embeddings.
        """
        return None

    def get_config(self) -> dict[str, Any]:
        """The arguments of `search_from_config` that make the same strategy."""
        return {"name": self.name, "top_k": self.top_k, "history_length": self.history_length}


class ScoredSearch(SearchStrategy):
    """The `top_k` behaviours with the highest scores; of equal ones the more recent."""

    @abc.abstractmethod
    def scores(self, inputs: SearchInputs) -> tf.Tensor:
        """Float `(B, C, W)`; `MASKED_SCORE` for a behaviour that must not be chosen."""

    def find(self, inputs: SearchInputs) -> Retrieved:
        """See `SearchStrategy`."""
        scores = tf.where(inputs.visible(), tf.stop_gradient(self.scores(inputs)), MASKED_SCORE)
        shape = tf.shape(scores)
        rows = tf.reshape(scores, [1, shape[0] * shape[1], shape[2]])
        kept = tf.minimum(self.top_k, inputs.width)
        score, column = top_columns(rows, kept)
        found = [shape[0], shape[1], kept]
        valid = tf.reshape(score, found) > MASKED_SCORE / 2
        return Retrieved(tf.where(valid, tf.reshape(column, found), 0), valid)


class PoolingSearch(SearchStrategy):
    """Pools all visible behaviours into entries instead of choosing some; the ESU attends to the entries."""

    @abc.abstractmethod
    def assignment_weights(self, inputs: SearchInputs) -> tf.Tensor:
        """How much of a behaviour goes into each entry, not negative: float `(B, W, entries)`.

        A target's entries are means, by these weights, of the behaviours it sees.
        """

    def find(self, inputs: SearchInputs) -> Retrieved:
        """No behaviour in particular."""
        nothing = tf.zeros(tf.concat([tf.shape(inputs.target), [1]], axis=0), tf.int32)
        return Retrieved(nothing, tf.zeros_like(nothing, tf.bool))


class LearnedSearch(ScoredSearch):
    """Learns to search by predicting clicks itself, beside the network; only what it retrieves passes over."""

    @abc.abstractmethod
    def auxiliary_logit(self, inputs: SearchInputs) -> tf.Tensor:
        """The prediction that the search learns from: float `(B, C)`."""
