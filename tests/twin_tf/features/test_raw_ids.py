"""Text ids are text wherever a vocabulary holds it, and only where it is that of the very id."""

import copy

from tests.twin_tf.plain_schema import PLAIN
from twin_tf.features.encoders import FeatureEncoder, hash_id
from twin_tf.features.raw_ids import id_feature, id_texts
from twin_tf.features.schema import schema_from_mapping


def schema(**encoding):
    """With an item feature made of the text id."""
    data = copy.deepcopy(PLAIN)
    data["features"][0]["encoding"] = encoding
    return schema_from_mapping(data)


def test_the_vocabulary_of_the_id_says_the_text():
    shop = schema(kind="vocabulary")
    feature = id_feature(shop, "inherent")
    assert feature.name == "item_key"
    fitted = {"item_key": ["tea", "mug"], "topic": [], "played": [1.0], "group": []}
    ids = [hash_id("mug"), hash_id("tea"), hash_id("rare"), hash_id("other"), -1]
    texts = id_texts(FeatureEncoder(shop, fitted), feature, [3, 2, 1, 3, 0], ids)
    assert texts == ["mug", "tea", None, None, None]


def test_without_a_vocabulary_or_without_text_there_is_none():
    assert id_feature(schema(kind="hash", buckets=10), "inherent") is None
    assert id_feature(schema(kind="vocabulary"), "user") is None  # their ids are numbers
