"""Whatever a server answers, the client gives probabilities or one error."""

import asyncio
import dataclasses
import gc
import math
import socket
import time
import weakref

import grpc
import numpy as np
import pytest

from export.client.async_client import AsyncTwinClient
from export.client.client import TwinClient
from export.contract import errors
from tests.export.client.answering import REQUEST, SOUND, Answering, serving

NAN, INF = math.nan, math.inf
F32, I32 = np.float32, np.int32


@pytest.fixture(scope="module")
def handler():
    return Answering()


@pytest.fixture(scope="module")
def client(handler):
    with serving(handler) as port, TwinClient(f"127.0.0.1:{port}", timeout_s=20) as made:
        yield made


def test_a_sound_answer_is_given_as_arrays(handler, client):
    handler.outputs = SOUND
    answer = dataclasses.asdict(client.predict(REQUEST))
    assert {name: value if isinstance(value, int) else value.tolist() for name, value in answer.items()} == {
        "probability": [[0.25, 0.5, 1.0]],
        "weights_version": [11],
        "table_version": [12],
        "unknown_items": [1],
        "behaviours_seen": [2],
        "adjusted": [0],
        "contract": [5],
        "model_version": 3,
    }


def test_columns_that_a_batch_was_padded_with_are_cut(handler, client):
    handler.outputs = {**SOUND, "probability": np.array([[0.5, 0.25, 0.0, NAN, 9]], F32)}
    assert client.predict(REQUEST).probability.tolist() == [[0.5, 0.25, 0.0]]


def test_an_older_version_does_not_say_what_it_adjusts(handler, client):
    handler.outputs = {name: array for name, array in SOUND.items() if name not in ("adjusted", "contract")}
    answer = client.predict(REQUEST)
    assert answer.adjusted is None and answer.contract is None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"probability": None}, "the answer lacks probability; is 'twin' a TWIN model?"),
        ({"table_version": None}, "the answer lacks table_version"),
        ({"probability": np.array([0.1, 0.2, 0.3], F32)}, "probability is float32 of 1 dimensions, not float32 of 2"),
        ({"probability": np.array([[0.1, 0.2, 0.3]])}, "probability is float64 of 2 dimensions, not float32 of 2"),
        ({"probability": np.array([["a", "b", "c"]], object)}, "probability is object of 2 dimensions"),
        ({"probability": np.zeros((2, 3), F32)}, "probability has 2 rows for 1 users"),
        ({"probability": np.zeros((0, 3), F32)}, "probability has 0 rows for 1 users"),
        ({"probability": np.zeros((1, 2), F32)}, "has 2 probabilities for 3 candidates"),
        ({"probability": np.array([[0.1, NAN, 0.3]], F32)}, r"probability\[0, 1\] of the answer is nan, which is no"),
        ({"probability": np.array([[0.1, 0.2, INF]], F32)}, r"probability\[0, 2\] of the answer is inf"),
        ({"probability": np.array([[-INF, 0.2, 0.3]], F32)}, r"probability\[0, 0\] of the answer is -inf"),
        ({"probability": np.array([[0.1, 1.5, 0.3]], F32)}, r"probability\[0, 1\] of the answer is 1.5"),
        ({"probability": np.array([[0.1, -0.5, 0.3]], F32)}, r"probability\[0, 1\] of the answer is -0.5"),
        ({"unknown_items": np.array([1])}, "unknown_items is int64 of 1 dimensions, not int32 of 1"),
        ({"unknown_items": np.array(1, I32)}, "unknown_items is int32 of 0 dimensions, not int32 of 1"),
        ({"adjusted": np.array([0, 0], I32)}, "adjusted has 2 rows for 1 users"),
        ({"weights_version": np.array([[11]])}, "weights_version is int64 of 2 dimensions"),
    ],
)
def test_any_other_answer_is_one_typed_error(handler, client, change, sentence):
    handler.outputs = {name: array for name, array in {**SOUND, **change}.items() if array is not None}
    with pytest.raises(errors.InvalidAnswerError, match=sentence):
        client.predict(REQUEST)

    async def awaited():
        async with AsyncTwinClient(client.addresses, timeout_s=20) as other:
            await other.predict(REQUEST)

    with pytest.raises(errors.InvalidAnswerError, match=sentence):
        asyncio.run(awaited())


def test_an_invalid_answer_is_a_loss_of_data_to_who_knows_codes_alone():
    assert errors.InvalidAnswerError("").status == "DATA_LOSS"


@pytest.mark.parametrize("wrong", [0, -1, NAN, INF, -INF, 1e12, 10**12, 86_401, "5", True, None])
def test_a_deadline_that_cannot_be_kept_is_refused_in_words(client, wrong):
    with pytest.raises(ValueError, match="timeout_s must be") as raised:
        TwinClient(client.addresses, timeout_s=wrong)
    assert type(raised.value) is ValueError
    if wrong is not None:  # the client's own
        with pytest.raises(ValueError, match="timeout_s must be"):
            client.predict(REQUEST, timeout_s=wrong)


def test_a_server_that_says_nothing_or_whose_name_is_nobodys_is_passed_over(handler):
    handler.outputs, handler.calls = SOUND, 0
    with socket.socket() as silent, serving(handler) as port:  # takes connections and never says a word
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        targets = [f"127.0.0.1:{silent.getsockname()[1]}", f"127.0.0.1:{port}", "nobody.invalid:8500"]

        async def awaited():
            async with AsyncTwinClient(targets, timeout_s=20) as client:
                for _ in range(6):
                    await client.predict(REQUEST)

        with TwinClient(targets, timeout_s=20) as client:
            for _ in range(6):
                client.predict(REQUEST)
        asyncio.run(awaited())
    assert handler.calls == 12


def test_calls_go_on_while_a_server_is_replaced(handler):
    handler.outputs = SOUND
    other = Answering()
    with serving(other) as port:
        with serving(handler) as first, TwinClient([f"127.0.0.1:{first}", f"127.0.0.1:{port}"], timeout_s=20) as client:
            handler.calls = 0
            while not (handler.calls and other.calls):
                client.predict(REQUEST)
        with TwinClient([f"127.0.0.1:{first}", f"127.0.0.1:{port}"], timeout_s=20) as client:
            for _ in range(10):  # one is gone
                client.predict(REQUEST)
            other.calls = handler.calls = 0
            with serving(handler, port=first):
                while not (handler.calls and other.calls):  # and is found again
                    client.predict(REQUEST)


def test_servers_that_hang_up_on_idle_clients_are_called_again(handler):
    """Both would otherwise count as gone for good, since calls go to connected servers alone."""
    handler.outputs = SOUND
    other, idle = Answering(), [("grpc.max_connection_idle_ms", 100)]
    with serving(handler, options=idle) as one, serving(other, options=idle) as two:
        targets = [f"127.0.0.1:{one}", f"127.0.0.1:{two}"]

        async def awaited():
            async with AsyncTwinClient(targets, timeout_s=20) as client:
                for _ in range(2):
                    handler.calls = other.calls = 0
                    while not (handler.calls and other.calls):
                        await client.predict(REQUEST)
                    await asyncio.sleep(0.5)

        with TwinClient(targets, timeout_s=20) as client:
            for _ in range(2):
                handler.calls = other.calls = 0
                while not (handler.calls and other.calls):
                    client.predict(REQUEST)
                time.sleep(0.5)
        asyncio.run(awaited())


def test_a_client_that_is_forgotten_leaves_no_thread(handler):
    handler.outputs = SOUND
    with serving(handler) as port:
        client = TwinClient([f"127.0.0.1:{port}", f"localhost:{port}"], timeout_s=20)
        client.predict(REQUEST)
        alive = weakref.ref(client)
        del client
        gc.collect()
        assert alive() is None


def test_a_server_that_cannot_take_calls_has_them_made_on_the_next():
    ill, well = Answering(failing=grpc.StatusCode.UNAVAILABLE), Answering()
    with serving(ill) as one, serving(well) as other:
        with TwinClient([f"127.0.0.1:{one}", f"127.0.0.1:{other}"], timeout_s=20) as client:
            for _ in range(20):
                client.predict(REQUEST)
        assert well.calls == 20
        with (
            TwinClient([f"127.0.0.1:{one}", f"127.0.0.1:{other}"], timeout_s=20, max_retries=0) as client,
            pytest.raises(errors.UnavailableError),
        ):
            while True:
                client.predict(REQUEST)
