"""The simulated configuration with the network that the published figures of speed and of TWIN-V2 were measured with.

It has narrower embeddings and heads than `twin_tf/configs/simulated.yaml`, which is set for quality.
"""

import dataclasses
from collections.abc import Sequence

from twin_tf.config import Config, load_config

WIDTH = 16
"""Of a wide feature's embedding, and of a head."""


def narrow_config(overrides: Sequence[str] = ()) -> Config:
    """The `simulated` configuration, nothing of it wider than `WIDTH`.

    Args:
        overrides: as `twin-tf --set` takes them; they win.
    """
    own = (f"model.head_size={WIDTH}", "model.relevance_init_scale=100", "training.epochs=3")
    config = load_config("simulated", [*own, *overrides])
    assert config.schema is not None
    features = tuple(dataclasses.replace(f, dim=min(f.dim, WIDTH)) for f in config.schema.features)
    return dataclasses.replace(config, schema=dataclasses.replace(config.schema, features=features))
