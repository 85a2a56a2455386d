"""TensorFlow-Java, an older TensorFlow without Python, gives an export's probabilities. Run by `make test-parts`."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from export.contract.probe_file import batches, load_probe_file
from export.session.child_process import child_environment
from tests.golden.make_golden import unpack
from tests.other_programs import CACHE, UnavailableError, copy_jars
from tests.patience import PATIENCE_S

pytestmark = [pytest.mark.integration, pytest.mark.parts]

HERE = Path(__file__).parent
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def jars():
    try:
        return copy_jars((HERE / "pom.xml").read_text(), CACHE / "tensorflow-java-1.1.0")
    except UnavailableError as error:
        pytest.skip(f"TensorFlow-Java was NOT run: {error}")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The golden files: `model` was exported by earlier code, `new` is the same run exported by today's."""
    root = tmp_path_factory.mktemp("golden")
    unpack(root)
    options = ["--run", "run", "--prepared", "prepared", "--output", "new"]
    done = subprocess.run(
        [sys.executable, "-m", "twin_tf.cli", "export", *options],
        cwd=root, env=child_environment(), capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return root


@pytest.mark.parametrize("name", ["model", "new"])
def test_tensorflow_java_gives_the_probabilities_of_the_trainer(name, jars, models, tmp_path):
    probes = load_probe_file(models / name)
    for number, (_, inputs) in enumerate(batches(probes)):
        write_request(tmp_path / "requests" / str(number), inputs)
    command = ["java", "-cp", f"{jars}/*", HERE / "Score.java", models / name, tmp_path / "requests"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("TensorFlow 2.18."), done.stdout
    largest = 0.0
    for number, (rows, inputs) in enumerate(batches(probes)):
        shape = inputs["candidate_item"].shape
        found = np.fromfile(tmp_path / "requests" / str(number) / "probability.bin", "<f4").reshape(shape)
        real = probes.real[rows, : shape[1]]
        expected = probes.expected["probability"][rows, : shape[1]]
        largest = max(largest, float(np.abs(found[real] - expected[real]).max()))
    print(f"{name}: {done.stdout.strip()}, {probes.real.sum()} probabilities, largest difference {largest:.2g}")
    assert largest < TOLERANCE


def write_request(directory, inputs):
    """A request as Score.java reads it."""
    directory.mkdir(parents=True)
    lines = []
    for name, values in inputs.items():
        lines.append(" ".join([name, values.dtype.name, *map(str, values.shape)]))
        values.astype(values.dtype.newbyteorder("<")).tofile(directory / f"{name}.bin")
    (directory / "inputs.txt").write_text("\n".join(lines) + "\n")
