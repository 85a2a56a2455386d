"""The asyncio client is the sync one, awaited; and what both do before anything is sent."""

import asyncio

import numpy as np
import pytest

from export.client.async_client import AsyncTwinClient
from export.client.client import TwinClient
from export.client.contract_check import check_answer, check_answer_async
from export.contract import errors
from export.local_server.server import start_local_server
from tests.export.client.answering import REQUEST, SOUND, Answering, serving
from tests.patience import PATIENCE_S
from twin_tf.features.contract import Contract
from twin_tf.features.encoders import hash_id
from twin_tf.features.schema import load_schema

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server(toys, place, tmp_path_factory):
    base = tmp_path_factory.mktemp("base")
    place(toys / "good", base, 12)
    with start_local_server(base) as running:
        yield running


def test_many_awaited_calls_get_the_trainers_scores(toys, server, probes):
    inputs, expected = probes(toys / "good")

    async def work():
        async with AsyncTwinClient([server.address, server.address], timeout_s=PATIENCE_S) as client:
            rows = [{name: value[row] for name, value in inputs.items()} for row in range(40)]
            answers = await asyncio.gather(*(client.predict(row) for row in rows))
            projection = await client.call("item_projection", {"item": np.array([[100, 1]])}, ["found"])
            return answers, projection, await client.model_status()

    answers, projection, status = asyncio.run(work())
    np.testing.assert_allclose([answer.probability[0] for answer in answers], expected, atol=1e-6)
    assert {answer.model_version for answer in answers} == {12}
    assert projection["found"].tolist() == [[True, False]]
    assert status == {12: "AVAILABLE"}


def test_awaited_errors_are_the_sync_clients(server):
    async def failing(**settings):
        async with AsyncTwinClient(server.address, **settings) as client:
            await client.call("nope", {}, timeout_s=20)

    for settings in ({}, {"version": 3}, {"label": "stable"}, {"model_name": "other"}):
        with TwinClient(server.address, **settings) as client, pytest.raises(errors.ServingError) as wanted:
            client.call("nope", {}, timeout_s=20)
        with pytest.raises(type(wanted.value)) as found:
            asyncio.run(failing(**settings))
        assert found.value.message == wanted.value.message
        assert type(found.value) is not errors.UnknownError


def test_an_answer_of_another_contract_is_refused_by_both_clients():
    ours, older = Contract("ours", {}, {}), Contract("older", {}, {})
    grown = Contract("grown", {}, {}, earlier=(older.digest,))
    served = {**SOUND, "contract": np.array([older.number])}
    understood = {**served, "understood": np.array([[older.number, ours.number]])}

    async def awaited(port, contract):
        async with AsyncTwinClient(f"127.0.0.1:{port}") as client:
            await check_answer_async(client, await client.predict(REQUEST), contract)

    def waited(port, contract):
        with TwinClient(f"127.0.0.1:{port}") as client:
            check_answer(client, client.predict(REQUEST), contract)

    for asked in (waited, lambda port, contract: asyncio.run(awaited(port, contract))):
        for outputs, contract in ((served, older), (served, grown), (understood, ours)):
            with serving(Answering(outputs)) as port:
                asked(port, contract)
        for outputs, contract in ((served, ours), (understood, Contract("other", {}, {}))):
            words = "version 3 of 'twin' was trained with another contract than"
            with serving(Answering(outputs)) as port, pytest.raises(errors.FailedPreconditionError, match=words):
                asked(port, contract)


def test_settings_out_of_range_are_refused():
    for settings, words in (
        ({"timeout_s": 0}, "timeout_s must be positive and at most 86400 seconds .a day., not 0"),
        ({"max_retries": 4}, "max_retries must be 0 to 3, not 4"),
        ({"version": 1, "label": "a"}, "version 1 and label 'a' exclude each other"),
    ):
        with pytest.raises(ValueError, match=words):
            TwinClient("localhost:8500", **settings)
    with TwinClient("localhost:1") as client, pytest.raises(ValueError, match="timeout_s must be positive"):
        client.call("self_check", {}, timeout_s=0)


def test_every_canonical_code_has_an_exception_of_its_own():
    kinds = [type(errors.error_for(code, "")) for code in range(1, 17)]
    assert len(set(kinds)) == 16
    assert [kind.code for kind in kinds] == list(range(1, 17))
    assert type(errors.error_for(99, "")) is errors.UnknownError


def test_text_ids_are_hashed_as_the_pipeline_hashes_them(toys, server, probes, tmp_path):
    text = (toys / "good" / "assets.extra" / "schema.yaml").read_text()
    (tmp_path / "schema.yaml").write_text(text.replace("item: {column: item}", "item: {column: item, type: string}"))
    request = {"history_time": [5], "request_time": 9, "history_price": [1], "user_segment": 1, "context_page": 1}
    request |= {"history_item": ["shoe-é"], "candidate_item": np.array([["hat", "shoe-é"]], object)}
    with TwinClient(server.address, timeout_s=PATIENCE_S, schema=load_schema(tmp_path / "schema.yaml")) as client:
        message, inputs = client._click_message(request)
        assert inputs["history_item"].tolist() == [[hash_id("shoe-é")]]
        assert inputs["candidate_item"].tolist() == [[hash_id("hat"), hash_id("shoe-é")]]
        assert client.predict(request).unknown_items.tolist() == [2]
        assert message.inputs["candidate_item"].dtype == 9
    with (
        TwinClient(server.address, timeout_s=PATIENCE_S) as client,
        pytest.raises(ValueError, match="history_item holds text; give the client"),
    ):
        client.predict(request)
    numbers = load_schema(toys / "good" / "assets.extra" / "schema.yaml")
    with (
        TwinClient(server.address, timeout_s=PATIENCE_S, schema=numbers) as client,
        pytest.raises(ValueError, match="history_item holds text, but the schema's item ids are whole numbers"),
    ):
        client.predict(request)
