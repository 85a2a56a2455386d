"""What the tensors of a request are called on the wire, for exporter, gate, server and clients alike.

`B` users, `L` behaviours oldest first, `C` candidates; `signatures.request_contract` has their types.
"""

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
