"""What a request is read by: the rows of the tables that its indices are of, and what the catalogue counts of items."""

from twin_tf.core.keras_api import tf
from twin_tf.features.request_names import candidate_name, context_name, history_name, user_name
from twin_tf.layers.embeddings import gather_rows, row_count
from twin_tf.models.twin import TwinModel


def index_rows(model: TwinModel) -> dict[str, tf.Tensor | int]:
    """Input of a request that holds indices -> how many rows its table has.

    Args:
        model: in the served graph the tables are variables that may grow, and the numbers tensors.
    """
    schema = model.schema
    tables = {history_name(f.name): model.cross_embedding.tables[f.name] for f in schema.stored_cross}
    tables |= {user_name(f.name): model.user_embeddings[f.name].table for f in schema.user}
    tables |= {context_name(f.name): model.context_embeddings[f.name].table for f in schema.stored_context}
    tables |= {candidate_name(f.name): model.context_embeddings[f.name].table for f in schema.requested_candidate}
    return {name: row_count(table) for name, table in tables.items()}


def counted_of_items(model: TwinModel, rows: tf.Tensor) -> dict[str, tf.Tensor]:
    """Features counted of items, as the catalogue has them: item rows, int `(...)`, -> feature -> int32 `(...)`."""
    first = max(columns.stop for columns in model.schema.inherent_slices.values())
    index = gather_rows(model.item_embedding.item_features, rows)
    return {feature.name: index[..., first + place] for place, feature in enumerate(model.schema.counted_item)}
