"""SIM Hard: the behaviours of the target's own category, most recent first.

References:
    Search-based User Interest Modeling, arXiv 2006.05639, section 3.1.
"""

from collections.abc import Mapping
from typing import Any

from twin_tf.config import ModelConfig
from twin_tf.core.dataclass_yaml import ConfigError, nearest
from twin_tf.core.keras_api import tf
from twin_tf.features.schema import FeatureSchema
from twin_tf.layers.equality_bias import shares_value
from twin_tf.layers.masking import MASKED_SCORE
from twin_tf.search.protocol import ScoredSearch, SearchInputs


class SimHardSearch(ScoredSearch):
    """The latest `top_k` behaviours that share a value of one inherent feature with the target.

    Args:
        top_k: K.
        history_length: L.
        columns: first and one past the last column of the feature, see `FeatureSchema.inherent_slices`.
    """

    name = "sim_hard"

    def __init__(self, top_k: int, history_length: int, columns: tuple[int, int]) -> None:
        super().__init__(top_k, history_length)
        self.columns = (columns[0], columns[1])

    @classmethod
    def arguments(cls, config: ModelConfig, schema: FeatureSchema, width: int, seed: int) -> Mapping[str, Any]:
        """Where the feature is that `model.searches.sim_hard.category` names."""
        slices, category = schema.inherent_slices, config.searches.sim_hard.category
        if category not in slices:
            hint = "" if category is None else nearest(category, slices)
            raise ConfigError(
                f"model.search: sim_hard needs model.searches.sim_hard.category, an inherent feature, not "
                f"{category!r}{hint}"
            )
        part = slices[category]
        return {"columns": (part.start, part.stop)}

    def scores(self, inputs: SearchInputs) -> tf.Tensor:
        """See `ScoredSearch`."""
        part = slice(*self.columns)
        match = shares_value(inputs.features(inputs.target)[..., part], inputs.features(inputs.behaviour)[..., part])
        return tf.where(match, 0.0, MASKED_SCORE)

    def get_config(self) -> dict[str, Any]:
        """See `SearchStrategy`."""
        return {**super().get_config(), "columns": list(self.columns)}
