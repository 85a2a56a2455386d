"""`TwinClient` for asyncio: the same arguments, requests, answers, retries and exceptions, awaited.

Example:
    >>> async with AsyncTwinClient(["ranker-0:8500", "ranker-1:8500"]) as client:
    ...     answers = await asyncio.gather(*(client.predict(request) for request in requests))
"""

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import grpc
import grpc.aio

from export.client.answer import click_response, read_outputs, states_by_version
from export.client.attempts import Attempts, connected
from export.client.base_client import ModelCalls
from export.client.request import ClickRequest, ClickResponse
from export.contract.tensors import Array

__all__ = ["AsyncTwinClient", "ClickRequest", "ClickResponse"]

_LOOK_S = 0.005
"""Between looks at connections that are being made: the event loop has no cheaper way to wait for the first of many."""


class AsyncTwinClient(ModelCalls):
    """Calls one model on one or several servers, from the event loop it was made in.

    Arguments: those of `ModelCalls`.
    """

    def _open(
        self, uri: str, options: list[tuple[str, Any]], credentials: grpc.ChannelCredentials | None
    ) -> grpc.aio.Channel:
        if credentials is not None:
            return grpc.aio.secure_channel(uri, credentials, options=options)
        return grpc.aio.insecure_channel(uri, options=options)

    def _follow_states(self) -> None:
        """Nothing: a channel of asyncio says its state when it is asked."""

    async def predict(self, request: ClickRequest | Mapping[str, Any], timeout_s: float | None = None) -> ClickResponse:
        """As `TwinClient.predict`."""
        message, inputs = self._click_message(request)
        return click_response(await self._call(self._predict, message, timeout_s), inputs, self.model_name)

    async def call(
        self,
        signature: str,
        inputs: Mapping[str, Any],
        outputs: Sequence[str] = (),
        timeout_s: float | None = None,
    ) -> dict[str, Array]:
        """As `TwinClient.call`."""
        return read_outputs(await self._call(self._predict, self._message(signature, inputs, outputs), timeout_s))

    async def model_status(self, timeout_s: float | None = None) -> dict[int, str]:
        """As `TwinClient.model_status`."""
        return states_by_version(await self._call(self._model_status, self._status_message(), timeout_s))

    async def close(self) -> None:
        """Closes the connections; running calls are cancelled."""
        for channel in self._channels:
            await channel.close()

    async def __aenter__(self) -> "AsyncTwinClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _call(self, method: Sequence[Any], message: Any, timeout_s: float | None) -> Any:
        """As `TwinClient._call`."""
        timeout = self._deadline(timeout_s)
        attempts = Attempts(self._rotation, timeout)
        while True:
            server = attempts.next_server(await self._connected(attempts))
            try:
                answer = await method[server](message, timeout=attempts.remaining())
            except grpc.RpcError as error:
                pause = attempts.pause_after(error.code())
                if pause is None:
                    raise self._explained(error, timeout) from error
                await asyncio.sleep(pause)
            else:
                attempts.succeeded()
                return answer

    async def _connected(self, attempts: Attempts) -> list[bool] | None:
        """Which servers are connected, as soon as it is known."""
        if len(self._channels) == 1:
            return None
        while True:
            ready = connected([channel.get_state(try_to_connect=True) for channel in self._channels])
            if ready is not None or not attempts.remaining():
                return ready
            await asyncio.sleep(_LOOK_S)
