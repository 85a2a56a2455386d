"""Set before any test imports TensorFlow: the Keras 2 API, a quiet log, and no way out to the network."""

import os
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

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
