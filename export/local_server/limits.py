"""What the stand-in takes, where the stock server takes whatever fits into memory."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds of one server.

    Attributes:
        request_bytes: the largest gRPC message or REST body.
        idle_seconds: a connection on which nothing comes for so long is closed.
    """

    request_bytes: int = 64 << 20
    idle_seconds: float = 60.0
