"""What the tensors of a request are called on the wire, for exporter, gate, server and clients alike.

And of which type and rank they are: `B` users, `L` behaviours oldest first, `C` candidates.
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

PREFIXES = ("history_", "user_", "context_", "candidate_")
"""What an input that belongs to a feature begins with, by the feature's role: cross, user, context, candidate."""


def history_name(feature: str) -> str:
    """The input of a stored cross feature."""
    return f"{PREFIXES[0]}{feature}"


def user_name(feature: str) -> str:
    """The input of a user feature."""
    return f"{PREFIXES[1]}{feature}"


def context_name(feature: str) -> str:
    """The input of a stored context feature."""
    return f"{PREFIXES[2]}{feature}"


def candidate_name(feature: str) -> str:
    """The input of a candidate feature."""
    return f"{PREFIXES[3]}{feature}"


def of_candidates(name: str) -> bool:
    """Whether an input belongs to the candidates: all but their number are `(B, C)`."""
    return name.startswith(PREFIXES[3])


def of_history(name: str) -> bool:
    """Whether an input belongs to the history: all but its length are `(B, L)`."""
    return name.startswith(PREFIXES[0])


def request_inputs(schema: "FeatureSchema") -> tuple[str, ...]:
    """The names of all inputs of a request."""
    return (
        HISTORY_ITEM,
        HISTORY_LENGTH,
        HISTORY_TIME,
        REQUEST_TIME,
        CANDIDATE_ITEM,
        CANDIDATE_COUNT,
        *(history_name(feature.name) for feature in schema.stored_cross),
        *([HISTORY_COUNT] if schema.history.clustered else []),
        *(user_name(feature.name) for feature in schema.user),
        *(context_name(feature.name) for feature in schema.stored_context),
        *(candidate_name(feature.name) for feature in schema.requested_candidate),
    )


def dtype_of(name: str) -> str:
    """NumPy's name of an input's type: ids and times are int64, indices and counts int32."""
    return "int64" if name in (HISTORY_ITEM, HISTORY_TIME, REQUEST_TIME, CANDIDATE_ITEM) else "int32"


def rank_of(name: str) -> int:
    """An input's dimensions: 2 with one value for each behaviour or candidate, else 1."""
    return 2 if (of_history(name) or of_candidates(name)) and name not in (HISTORY_LENGTH, CANDIDATE_COUNT) else 1
