"""The client installed from a wheel with `[client]` alone, answers without TensorFlow, Beam or scikit-learn."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from export.local_server.server import start_local_server
from tests.engines.worker_environment import worker_environment
from tests.packaging.checkout import copy_checkout
from tests.patience import PATIENCE_S

pytestmark = [pytest.mark.integration, pytest.mark.slow]

REQUEST = {
    "history": [{"item": 101, "time": 100, "price": 2.5}, {"item": 102, "time": 200, "price": 1.5}],
    "user": {"segment": 1},
    "context": {"page": 2},
    "request_time": 300,
    "candidates": [103, 104],
}

ASK = """
import asyncio, importlib.util, json, sys
import numpy as np
import export
from export.client import AsyncTwinClient, TwinClient

address, path = sys.argv[1:]
with np.load(path) as file:
    inputs = {name.removeprefix("input/"): file[name] for name in file.files if name.startswith("input/")}
with TwinClient(address, timeout_s=900) as client:
    answer = client.predict(inputs)

async def ask():
    async with AsyncTwinClient(address, timeout_s=900) as client:
        return await client.predict(inputs)

heavy = ("tensorflow", "tf_keras", "apache_beam", "sklearn", "matplotlib", "tensorflow_serving")
print(json.dumps({
    "probability": answer.probability.tolist(),
    "awaited": asyncio.run(ask()).probability.tolist(),
    "installed": [name for name in heavy if importlib.util.find_spec(name)],
    "where": export.__file__,
}))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    root = tmp_path_factory.mktemp("client")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-index", "--no-deps"]
    checkout = copy_checkout(root / "checkout")
    subprocess.run([*pip, "--no-build-isolation", f"--wheel-dir={root / 'wheels'}", str(checkout)], check=True)
    (wheel,) = (root / "wheels").iterdir()
    return worker_environment(root / "environment", wheel, "client", ())


@pytest.fixture(scope="module")
def run(python, tmp_path_factory):
    """Runs the installed Python with nothing of the repository in sight."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def call(*arguments):
        command = [str(python), "-I", *map(str, arguments)]
        return subprocess.run(command, cwd=elsewhere, env=alone, capture_output=True, text=True, timeout=PATIENCE_S)

    return call


def test_the_installed_client_answers_without_tensorflow(run, python, toys, place, probes, tmp_path):
    place(toys / "good", tmp_path, 1)
    _, expected = probes(toys / "good")
    with start_local_server(tmp_path) as server:
        asked = run("-c", ASK, server.address, toys / "good/assets.extra/probes.npz")
        assert asked.returncode == 0, asked.stderr
        (tmp_path / "request.json").write_text(json.dumps(REQUEST))
        arguments = ("--server", server.address, "--model", toys / "good", "--request", tmp_path / "request.json")
        predicted = run("-m", "twin_tf.cli", "predict", *arguments)
        assert predicted.returncode == 0, predicted.stderr
    answer = json.loads(asked.stdout)
    np.testing.assert_allclose(answer["probability"], expected, atol=1e-5)
    assert answer["awaited"] == answer["probability"]
    assert {one["item"] for one in json.loads(predicted.stdout)["candidates"]} == set(REQUEST["candidates"])
    assert answer["installed"] == []
    assert Path(answer["where"]).is_relative_to(python.parents[1])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("train --config simulated --prepared x --run y", "train needs TensorFlow: pip install 'twin-tf[train]'"),
        ("serve --base-path x", "serve needs TensorFlow: pip install 'twin-tf[serving]'"),
        (
            "preprocess --config simulated --events x --output y",
            "preprocess needs Apache Beam: pip install 'twin-tf[pipelines]'",
        ),
    ],
)
def test_where_the_client_is_alone_other_commands_name_their_extra(run, arguments, sentence):
    done = run("-m", "twin_tf.cli", *arguments.split())
    assert (done.returncode, done.stderr.strip().splitlines()[-1]) == (2, f"Error: twin-tf {sentence}")
