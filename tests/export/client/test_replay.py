"""Probes sent through client and server come back with the trainer's numbers, and a stale one is noticed."""

import shutil

import numpy as np
import pytest

from export.client.client import TwinClient
from export.client.replay import load_probes, replay
from export.contract.errors import UnavailableError
from export.local_server.server import start_local_server
from tests.patience import PATIENCE_S
from tests.twin_tf import small_run
from tests.twin_tf.built_once import shared_root
from twin_tf.core.dataclass_yaml import ConfigError

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def model():
    return small_run.small_model(shared_root())


@pytest.fixture(scope="module")
def client(model, tmp_path_factory):
    base = tmp_path_factory.mktemp("serving")
    shutil.copytree(model, base / "1700000000")
    with start_local_server(base) as server, TwinClient(server.address, timeout_s=PATIENCE_S) as client:
        yield client


def test_served_equals_trained(client, model):
    figures = replay(client, model)
    inputs, expected, _ = load_probes(model)
    assert figures["requests"] == len(figures["latencies_ms"]) == len(expected) >= 50
    assert figures["served_minus_trained_max"] <= 1e-5
    assert figures["overlap_at_100"] == 100.0
    assert 0 < figures["p50_ms"] <= figures["p99_ms"] <= max(figures["latencies_ms"])
    assert figures["median_history"] == np.median(inputs["history_length"])
    assert figures["median_candidates"] == np.median(inputs["candidate_count"])


def test_numbers_of_another_training_are_noticed(client, model, tmp_path):
    copy = shutil.copytree(model, tmp_path / "model")
    path = copy / "assets.extra/probes.npz"
    with np.load(path) as file:
        content = dict(file)
    content["expected/probability"][7, 0] += 0.125
    content["expected/position"][:, :, ::2] = -1
    longest = int(np.argmax(content["input/history_length"]))
    unseen = np.setdiff1d(np.arange(400), content["expected/position"][longest, 0])[-1]  # beyond any history
    content["expected/position"][longest, 0, 1] = unseen
    np.savez(path, **content)
    figures = replay(client, copy)
    assert figures["served_minus_trained_max"] == pytest.approx(0.125, abs=2e-5)
    wanted = (content["expected/position"] >= 0).sum()
    assert figures["overlap_at_100"] == pytest.approx(100 * (1 - 1 / wanted))


def test_a_model_without_probes_is_named(client, tmp_path):
    with pytest.raises(ConfigError, match=r"has no probes: probes\.npz is missing; export it again"):
        replay(client, tmp_path)


def test_no_server_is_one_error(model):
    with TwinClient("127.0.0.1:9", timeout_s=2) as client, pytest.raises(UnavailableError):
        replay(client, model)
