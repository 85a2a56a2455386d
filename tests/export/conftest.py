"""Toy models with the contract's signatures, built once in a process of their own."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from export.session.child_process import child_environment
from tests.patience import PATIENCE_S
from tests.twin_tf.built_once import built_once, shared_root


@built_once
def built_toys(root):
    toys = root / "toys"
    toys.mkdir()
    script = Path(__file__).parent / "build_toys.py"
    built = subprocess.run([sys.executable, str(script), str(toys)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-3000:]
    return toys


@pytest.fixture(scope="session")
def toys():
    """Directory of the toy models of `build_toys.py`."""
    return built_toys(shared_root())


@pytest.fixture(scope="session")
def run_python():
    """Runs code in a fresh process and returns the JSON it prints last."""

    def run(code, *arguments):
        command = [sys.executable, "-c", code, *map(str, arguments)]
        done = subprocess.run(
            command, capture_output=True, text=True, env=child_environment(), timeout=PATIENCE_S, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.fixture(scope="session")
def place():
    """Puts a copy of a model under a base path, the way a publisher does: written elsewhere, renamed in."""

    def put(model, base, number):
        hidden = base / f".{number}"
        shutil.copytree(model, hidden)
        hidden.rename(base / str(number))
        return base / str(number)

    return put


@pytest.fixture(scope="session")
def probes():
    """Reads a model's probes: (inputs by name, expected probabilities)."""

    def read(model):
        with np.load(model / "assets.extra" / "probes.npz") as file:
            inputs = {name.removeprefix("input/"): file[name] for name in file.files if name.startswith("input/")}
            return inputs, file["expected/probability"]

    return read
