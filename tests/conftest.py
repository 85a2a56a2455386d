"""Set before any test imports TensorFlow: the Keras 2 API, a quiet log, and no way out to the network."""

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

ROOT_VARIABLE = "TWIN_TESTS_ROOT"
"""Names the directory of what is built once for all workers (`tests.twin_tf.built_once`)."""


def pytest_configure(config: pytest.Config) -> None:
    """Before the workers start, which take the environment over."""
    if not hasattr(config, "workerinput"):
        os.environ[ROOT_VARIABLE] = tempfile.mkdtemp(prefix="twin-tests-")


def pytest_unconfigure(config: pytest.Config) -> None:
    """After they have ended."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ.pop(ROOT_VARIABLE, ""), ignore_errors=True)


_LOCAL = {"localhost", "127.0.0.1", "::1", "0.0.0.0", "::", ""}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own sockets reach this machine only; a test that needs more fails and says so."""
    connect = socket.socket.connect

    def connect_locally(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in _LOCAL:
            raise OSError(f"tests have no network, but something connects to {address[0]}:{address[1]}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_locally)


@pytest.fixture(autouse=True)
def graphs_end_with_their_test() -> Iterator[None]:
    """TensorFlow keeps every traced `tf.custom_gradient` with its graph for good: gigabytes over all tests."""
    yield
    tensorflow_ops = sys.modules.get("tensorflow.python.framework.ops")
    if tensorflow_ops is not None:
        registered = tensorflow_ops.gradient_registry._registry
        for name in [name for name in registered if name.startswith("CustomGradient-")]:
            del registered[name]
