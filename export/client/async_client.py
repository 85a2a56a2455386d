"""`TwinClient` for asyncio: the same arguments, requests, answers, retries and exceptions, awaited.

Example:
    >>> async with AsyncTwinClient(["ranker-0:8500", "ranker-1:8500"]) as client:
    ...     answers = await asyncio.gather(*(client.predict(request) for request in requests))
"""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import grpc
import grpc.aio

from export.client.base_client import ModelCalls, read_outputs, states_by_version
from export.client.request import ClickRequest, ClickResponse
from export.contract.tensors import Array

__all__ = ["AsyncTwinClient", "ClickRequest", "ClickResponse"]


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

    async def predict(self, request: ClickRequest | Mapping[str, Any], timeout_s: float | None = None) -> ClickResponse:
        """As `TwinClient.predict`."""
        message, inputs = self._click_message(request)
        return self._click_response(await self._call(self._predict, message, timeout_s), inputs)

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
        await self._channel.close()

    async def __aenter__(self) -> "AsyncTwinClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _call(self, method: Any, message: Any, timeout_s: float | None) -> Any:
        timeout = self._deadline(timeout_s)
        try:
            return await method(message, timeout=timeout)
        except grpc.RpcError as error:
            raise self._explained(error, timeout) from error
