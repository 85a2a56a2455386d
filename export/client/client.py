"""The gRPC client of a served TWIN model: NumPy in, click probabilities out, no TensorFlow in the process.

Works with stock TensorFlow Serving and with `export.local_server.server` alike. `AsyncTwinClient` is the same for
asyncio.

Example:
    >>> with TwinClient("127.0.0.1:8500") as client:
    ...     answer = client.predict({"history_item": items, "history_time": times, "request_time": now,
    ...                              "candidate_item": candidates})
    ...     answer.probability
"""

import functools
import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import grpc

from export.client.answer import click_response, read_outputs, states_by_version
from export.client.attempts import Attempts, connected
from export.client.base_client import ModelCalls
from export.client.request import ClickRequest, ClickResponse
from export.contract.tensors import Array

__all__ = ["ClickRequest", "ClickResponse", "TwinClient"]


class TwinClient(ModelCalls):
    """Calls one model on one or several servers; may be shared by threads.

    Calls go to the servers in turn, as far as they are connected. A call the server could not take (UNAVAILABLE) is
    made again, on the next server where there are several, at most `max_retries` times within the deadline; nothing
    else is retried. Arguments: those of `ModelCalls`.
    """

    def _open(
        self, uri: str, options: list[tuple[str, Any]], credentials: grpc.ChannelCredentials | None
    ) -> grpc.Channel:
        if credentials is not None:
            return grpc.secure_channel(uri, credentials, options=options)
        return grpc.insecure_channel(uri, options=options)

    def _follow_states(self) -> None:
        self._states = _States(len(self._channels))
        if len(self._channels) > 1:  # of one server nothing is to be chosen
            for place, channel in enumerate(self._channels):
                channel.subscribe(functools.partial(self._states.note, place), try_to_connect=True)

    def predict(self, request: ClickRequest | Mapping[str, Any], timeout_s: float | None = None) -> ClickResponse:
        """Click probabilities of a request's candidates.

        Args:
            request: a `ClickRequest`, or a mapping with `serving_default`'s input names (`export.client.request`).
            timeout_s: another deadline than the client's.

        Raises:
            ValueError: the request breaks a rule; nothing was sent.
            ServingError: the exception of the server's code, for example `NotFoundError`, `UnavailableError`.
        """
        message, inputs = self._click_message(request)
        return click_response(self._call(self._predict, message, timeout_s), inputs, self.model_name)

    def call(
        self,
        signature: str,
        inputs: Mapping[str, Any],
        outputs: Sequence[str] = (),
        timeout_s: float | None = None,
    ) -> dict[str, Array]:
        """Calls any signature with arrays exactly as given.

        Args:
            signature: its name, for example `item_projection`.
            inputs: name -> array with the signature's dtype.
            outputs: the outputs to return; all if empty.
            timeout_s: another deadline than the client's.

        Raises:
            ValueError: an array of a type that cannot be sent.
            ServingError: the exception of the server's code.
        """
        return read_outputs(self._call(self._predict, self._message(signature, inputs, outputs), timeout_s))

    def model_status(self, timeout_s: float | None = None) -> dict[int, str]:
        """Version -> state (`AVAILABLE`, `LOADING`, ...; `END: <reason>` for a refused one), newest first.

        Raises:
            ServingError: the exception of the server's code.
        """
        return states_by_version(self._call(self._model_status, self._status_message(), timeout_s))

    def close(self) -> None:
        """Closes the connections; running calls are cancelled."""
        for channel in self._channels:
            channel.close()

    def __enter__(self) -> "TwinClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, method: Sequence[Any], message: Any, timeout_s: float | None) -> Any:
        """Calls a method, given as that of each server."""
        timeout = self._deadline(timeout_s)
        attempts = Attempts(self._rotation, timeout)
        while True:
            server = attempts.next_server(self._connected(attempts))
            try:
                answer = method[server](message, timeout=attempts.remaining())
            except grpc.RpcError as error:
                pause = attempts.pause_after(error.code())
                if pause is None:
                    raise self._explained(error, timeout) from error
                time.sleep(pause)
            else:
                attempts.succeeded()
                return answer

    def _connected(self, attempts: Attempts) -> list[bool] | None:
        """Which servers are connected, as soon as it is known."""
        return None if len(self._channels) == 1 else self._states.wait(attempts.remaining())


class _States:
    """What the channels' own threads say of them; knows no client, so that one that is forgotten can go.

    Args:
        channels: how many.
    """

    def __init__(self, channels: int) -> None:
        self._states = [grpc.ChannelConnectivity.IDLE] * channels
        self._changed = threading.Condition()

    def note(self, place: int, state: grpc.ChannelConnectivity) -> None:
        """A channel's new state."""
        with self._changed:
            self._states[place] = state
            self._changed.notify_all()

    def wait(self, timeout_s: float) -> list[bool] | None:
        """`attempts.connected` of the states, waited for until there is an answer."""
        with self._changed:
            self._changed.wait_for(lambda: connected(self._states) is not None, timeout_s)
            return connected(self._states)
