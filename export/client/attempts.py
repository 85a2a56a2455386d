"""Which server a call goes to and whether it is made again: round robin, failover, throttled retries.

Each server has a channel of its own, so that its certificate is checked against its own name; what gRPC does among the
addresses of one channel is done here among channels, for the sync and the asyncio client alike.
"""

import random
import threading
import time
from collections.abc import Sequence

import grpc

MOST_RETRIES = 3
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 0.5
_TOKENS, _TOKEN_RATIO = 100.0, 0.1
_FAILING = (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN)


def connected(states: Sequence[grpc.ChannelConnectivity]) -> list[bool] | None:
    """Which servers can take a call now; None while none can and some may soon."""
    ready = [state is grpc.ChannelConnectivity.READY for state in states]
    return ready if any(ready) or all(state in _FAILING for state in states) else None


class Rotation:
    """Hands out the servers in turn, and stops retries while most calls fail. Shared by the threads of a client.

    The throttle is gRPC's own: a failure costs a token, a success earns a tenth of one, and without half of the tokens
    nothing is made again, so that an ailing server is not drowned in retries.

    Args:
        servers: how many.
        max_retries: of one call, 0 to 3.

    Raises:
        ValueError: `max_retries` is out of range.
    """

    def __init__(self, servers: int, max_retries: int) -> None:
        if not 0 <= max_retries <= MOST_RETRIES:
            raise ValueError(
                f"max_retries must be 0 to {MOST_RETRIES}, not {max_retries}: more only adds load to an ailing server"
            )
        self.servers, self.max_retries = servers, max_retries
        self._lock = threading.Lock()
        self._turn, self._tokens = -1, _TOKENS

    def turn(self) -> int:
        """The number of a new call."""
        with self._lock:
            self._turn += 1
            return self._turn

    def failed(self) -> bool:
        """Counts a server that could not take a call; whether another attempt is in order."""
        with self._lock:
            self._tokens = max(0.0, self._tokens - 1)
            return self._tokens > _TOKENS / 2

    def succeeded(self) -> None:
        """Counts an answer."""
        with self._lock:
            self._tokens = min(_TOKENS, self._tokens + _TOKEN_RATIO)


class Attempts:
    """One call: its deadline, and the servers that it was made on.

    Args:
        rotation: the client's.
        timeout_s: the deadline of all attempts together, in seconds from now.
    """

    def __init__(self, rotation: Rotation, timeout_s: float) -> None:
        self._rotation = rotation
        self._turn = rotation.turn()
        self._end = time.monotonic() + timeout_s
        self._tried: list[int] = []

    def remaining(self) -> float:
        """Seconds until the deadline, not below 0."""
        return max(0.0, self._end - time.monotonic())

    def next_server(self, ready: Sequence[bool] | None) -> int:
        """The server to call: of those that are connected the next in turn, untried ones first.

        Args:
            ready: by server; None or none of them: all are alike.
        """
        choices = [server for server, up in enumerate(ready or ()) if up] or list(range(self._rotation.servers))
        first = self._turn % len(choices)
        server = min(choices[first:] + choices[:first], key=self._tried.count)
        self._tried.append(server)
        return server

    def pause_after(self, code: grpc.StatusCode) -> float | None:
        """Seconds until the call is made again after an error of this code; None if it is given up."""
        if code is not grpc.StatusCode.UNAVAILABLE:
            return None
        made = len(self._tried)
        if not self._rotation.failed() or made > self._rotation.max_retries:
            return None
        pause = random.uniform(0, min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** (made - 1)))
        return pause if pause < self.remaining() else None

    def succeeded(self) -> None:
        """The call was answered."""
        self._rotation.succeeded()
