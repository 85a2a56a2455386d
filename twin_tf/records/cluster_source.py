"""What clustered histories were made of, as the manifest says it."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class ClusterSource:
    """What clustered histories were made of, and how (`twin-tf cluster`).

    Attributes:
        manifest_sha256: of the manifest of the prepared data.
        weights_version: of the run whose item embeddings say what is near.
        checkpoint: the name of its checkpoint.
        embeddings_sha256: of all items' embeddings, as they were used.
        settings: of `twin_tf.config.ClusterConfig`.
        moments: when histories were clustered, in the unit of the logs; each target has what the last one before it
            made, and what came after that as it was.
        items_without_embedding: items whose embedding is zero or not finite: all alike.
    """

    manifest_sha256: str
    weights_version: int
    checkpoint: str
    embeddings_sha256: str
    settings: Mapping[str, Any]
    moments: tuple[int, ...]
    items_without_embedding: int = 0
