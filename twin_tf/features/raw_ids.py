"""Text ids as text. Records hold their hashes; the text is in a vocabulary, if a feature is made of the id."""

from collections.abc import Iterable
from typing import Literal

from twin_tf.features.encoders import FeatureEncoder, hash_id
from twin_tf.features.schema import FIRST_KNOWN, Feature, FeatureSchema


def id_feature(schema: FeatureSchema, role: Literal["inherent", "user"]) -> Feature | None:
    """The feature whose vocabulary holds the text of the ids of items (`inherent`) or users.

    Returns:
        None if the ids are numbers, or if no feature keeps their text.
    """
    log, events = (schema.items, schema.events.item) if role == "inherent" else (schema.users, schema.events.user)
    if events.type == "int":
        return None
    column = (log or events).column
    for feature in schema.of_role(role):
        if feature.column == column and feature.encoding_or_fail.kind == "vocabulary" and feature.multi_valued is None:
            return feature
    return None


def id_texts(encoder: FeatureEncoder, feature: Feature, indices: Iterable[int], ids: Iterable[int]) -> list[str | None]:
    """The text of hashed ids.

    Args:
        encoder: with the vocabulary.
        feature: of `id_feature`.
        indices: of the feature, one an id.
        ids: the hashes, of which each text must be one.

    Returns:
        None where the vocabulary does not hold the id, for example because it was too rare.
    """
    values = encoder.fitted[feature.name]
    found: list[str | None] = []
    for index, raw in zip(indices, ids, strict=True):
        text = str(values[index - FIRST_KNOWN]) if FIRST_KNOWN <= index < FIRST_KNOWN + len(values) else None
        found.append(text if text is not None and hash_id(text) == raw else None)
    return found
