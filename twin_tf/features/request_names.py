"""What the tensors of a request are called on the wire, for exporter, gate, server and clients alike.

`B` users, `L` behaviours oldest first, `C` candidates; `signatures.request_contract` has their types.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twin_tf.features.schema import FeatureSchema

HISTORY_ITEM = "history_item"
HISTORY_TIME = "history_time"
HISTORY_LENGTH = "history_length"
HISTORY_COUNT = "history_count"
"""Of clustered histories: how many behaviours an entry stands for."""

REQUEST_TIME = "request_time"
CANDIDATE_ITEM = "candidate_item"
CANDIDATE_COUNT = "candidate_count"

PREFIXES = ("history_", "user_", "context_")
"""What an input that belongs to a feature begins with, by the feature's role: cross, user, context."""


def history_name(feature: str) -> str:
    """The input of a stored cross feature."""
    return f"{PREFIXES[0]}{feature}"


def user_name(feature: str) -> str:
    """The input of a user feature."""
    return f"{PREFIXES[1]}{feature}"


def context_name(feature: str) -> str:
    """The input of a stored context feature."""
    return f"{PREFIXES[2]}{feature}"


def of_history(name: str) -> bool:
    """Whether an input belongs to the history: all but its length are `(B, L)`."""
    return name.startswith(PREFIXES[0])


def request_inputs(schema: "FeatureSchema") -> set[str]:
    """The names of all inputs of a request."""
    always = {HISTORY_ITEM, HISTORY_TIME, HISTORY_LENGTH, REQUEST_TIME, CANDIDATE_ITEM, CANDIDATE_COUNT}
    features = {history_name(feature.name) for feature in schema.stored_cross}
    features |= {user_name(feature.name) for feature in schema.user}
    features |= {context_name(feature.name) for feature in schema.stored_context}
    return always | features | ({HISTORY_COUNT} if schema.history.clustered else set())
