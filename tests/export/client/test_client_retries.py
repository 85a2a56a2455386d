"""What is retried, how often, and which exception each code becomes: against a server that fails as it is told to."""

import asyncio
from concurrent import futures

import grpc
import numpy as np
import pytest

from export.client.async_client import AsyncTwinClient
from export.client.client import TwinClient
from export.contract import errors
from tests.export.client.answering import Answering

CODES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
ITEM = {"item": np.array([[100]])}


class Failing(Answering):
    """Answers every Predict with the code that `model_spec.name` names; notes the calls."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def predict(self, request, context):
        self.calls.append((request.model_spec.name, context.time_remaining()))
        context.abort(grpc.StatusCode[request.model_spec.name], "as told")


@pytest.fixture
def failing():
    counter = Failing()
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[counter])
    counter.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield counter
    server.stop(None)


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_only_unavailable_is_retried_and_always_within_a_deadline(failing, retries):
    for code in CODES:
        kind = type(errors.error_for(code.value[0], ""))
        with TwinClient(failing.address, code.name, timeout_s=20, max_retries=retries) as client:
            with pytest.raises(kind) as raised:
                client.call("item_projection", ITEM)
            assert raised.value.status == code.name
        names = [name for name, _ in failing.calls]
        assert names == [code.name] * (1 + retries * (code is grpc.StatusCode.UNAVAILABLE))
        assert all(0 < remaining <= 20.1 for _, remaining in failing.calls)  # gRPC's wire rounds up to 0.1 s here
        failing.calls.clear()


def test_the_asyncio_client_retries_and_fails_alike(failing):
    async def ask(code):
        async with AsyncTwinClient(failing.address, code.name, timeout_s=20) as client:
            with pytest.raises(type(errors.error_for(code.value[0], ""))):
                await client.call("item_projection", ITEM)

    for code in CODES:
        asyncio.run(ask(code))
        assert len(failing.calls) == (4 if code is grpc.StatusCode.UNAVAILABLE else 1)
        failing.calls.clear()


def test_retries_stop_while_most_calls_fail(failing):
    with TwinClient(failing.address, "UNAVAILABLE", timeout_s=20) as client:
        for _ in range(40):
            with pytest.raises(errors.UnavailableError):
                client.call("item_projection", ITEM)
    assert 40 < len(failing.calls) < 160  # throttled: not three more for every one
