"""A fixed memory in the manner of MIMN: a few slots hold the whole history, and the target reads them.

Every behaviour is written to the slots by how near its item is to each slot's learned key, a softmax; a slot holds the
mean of what was written to it. MIMN writes with a recurrent controller and erases; this memory does neither, so it is
smaller, and honest: what a target reads does not depend on anything but the behaviours it sees.

References:
    Practice on Long Sequential User Behavior Modeling for Click-Through Rate Prediction, arXiv 1905.09248, section 4.
"""

from collections.abc import Mapping
from typing import Any

from twin_tf.config import ModelConfig
from twin_tf.core.keras_api import keras, tf
from twin_tf.features.schema import FeatureSchema
from twin_tf.layers.projection import project
from twin_tf.search.protocol import PoolingSearch, SearchInputs


@keras.utils.register_keras_serializable("twin_tf")
class SlotKeys(keras.layers.Layer):
    """The learned keys of the slots.

    Args:
        width: H, of the items.
        slots: how many.
        seed: of the start.
    """

    def __init__(self, width: int, slots: int, seed: int, name: str = "memory_slots") -> None:
        super().__init__(name=name)
        self._settings = {"width": width, "slots": slots, "seed": seed}
        start = keras.initializers.RandomNormal(stddev=float(width) ** -0.5, seed=seed)
        self.kernel = self.add_weight("slot_keys", (width, slots), initializer=start)

    def call(self, items: tf.Tensor) -> tf.Tensor:
        """How much of each item goes into each slot: float `(..., H)` -> `(..., slots)`, summing to 1."""
        return tf.nn.softmax(project(items, self.kernel), axis=-1)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the same layer."""
        return {"name": self.name, **self._settings}


class MimnSearch(PoolingSearch):
    """As many entries as there are slots.

    Args:
        top_k: K; not used.
        history_length: L.
        width: H, of the items.
        slots: of the memory.
        seed: of the keys' start.
    """

    name = "mimn"
    learns = True

    def __init__(self, top_k: int, history_length: int, width: int, slots: int, seed: int) -> None:
        super().__init__(top_k, history_length)
        self.width, self.slots, self.seed = width, slots, seed
        self.layer = SlotKeys(width, slots, seed)

    @classmethod
    def arguments(cls, config: ModelConfig, schema: FeatureSchema, width: int, seed: int) -> Mapping[str, Any]:
        """Width, slots and seed."""
        return {"width": width, "slots": config.searches.mimn.slots, "seed": seed}

    def assignment_weights(self, inputs: SearchInputs) -> tf.Tensor:
        """See `PoolingSearch`."""
        assert self.layer is not None
        return self.layer(inputs.embed(inputs.behaviour))

    def get_config(self) -> dict[str, Any]:
        """See `SearchStrategy`."""
        return {**super().get_config(), "width": self.width, "slots": self.slots, "seed": self.seed}
