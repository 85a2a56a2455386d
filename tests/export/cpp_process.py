"""Runs signatures of model directories in the C++ session, in a process of its own that never imports TensorFlow.

python cpp_process.py DIRECTORY      with DIRECTORY/calls.json: [[model directory, signature, name], ...]

reads DIRECTORY/<name>.npz and writes DIRECTORY/<name>.out.npz, or <name>.error.json where the call fails.
"""

import contextlib
import json
import sys
from pathlib import Path

import numpy as np

from export.contract.errors import ServingError
from export.session.cpp_session import CppSession


def main(directory: Path) -> None:
    with contextlib.ExitStack() as stack:
        sessions: dict[str, CppSession] = {}
        for model, signature, name in json.loads((directory / "calls.json").read_text()):
            if model not in sessions:
                sessions[model] = stack.enter_context(CppSession(model))
            with np.load(directory / f"{name}.npz") as file:
                inputs = dict(file)
            try:
                np.savez(directory / f"{name}.out.npz", **sessions[model].run(signature, inputs))
            except ServingError as error:
                (directory / f"{name}.error.json").write_text(json.dumps([error.status, error.sentence]))
    imported = [name for name in sys.modules if name.split(".")[0] in ("tensorflow", "tf_keras", "keras")]
    assert not imported, imported


if __name__ == "__main__":
    main(Path(sys.argv[1]))
