"""The C++ session gives what Python's TensorFlow gives, in a process that never imports it."""

import numpy as np
import pytest

from export.contract.errors import NotFoundError
from export.session.cpp_session import CppSession

pytestmark = pytest.mark.integration

RUN = """
import json, sys, threading
import numpy as np
from export.session.cpp_session import CppSession
from export.contract.errors import ServingError
from pathlib import Path
root = Path(sys.argv[1])
facts = {}
def error(call):
    try:
        call()
    except ServingError as error:
        return [type(error).__name__, error.status, error.sentence]

with CppSession(root / "echo") as echo:
    signature = echo.signatures["serving_default"]
    facts["inputs"] = {k: [v.dtype, v.shape] for k, v in signature.inputs.items()}
    long = b"x" * 100 + b"\\0" + b"y"
    given = {"text": np.array(["short", long, ""], object), "flag": [True, False], "half": np.float16(1.5),
             "number": np.ones((2, 3, 1), ">f4")}
    out = echo.run("serving_default", given)
    facts["text"] = [t.decode() for t in out["text"]] == ["short", long.decode(), ""]
    facts["joined"] = out["joined"].shape == () and out["joined"].item() == b"short|" + long + b"|"
    facts["rest"] = [out["not_flag"].tolist(), out["half"].item(), out["number"].tolist(), out["length"].tolist()]
    facts["empty"] = [list(echo.run("serving_default", {**given, "text": []})["text"].shape)]
    facts["filtered"] = sorted(echo.run("serving_default", given, ["half"]))
    facts["writeable"] = out["number"].flags.writeable
    kept = echo.run("serving_default", given)["number"]
facts["kept_after_close"] = kept.tolist()
facts["closed"] = error(lambda: echo.run("serving_default", given))

session = CppSession(root / "good")
with np.load(root / "good/assets.extra/probes.npz") as file:
    probes = {k[6:]: file[k] for k in file.files if k.startswith("input/")}
    expected = file["expected/probability"]
answers, failures = [None] * 8, []
def work(index):
    for _ in range(20):
        rows = slice(index, index + 1 + index)
        got = session.run("serving_default", {k: v[rows] for k, v in probes.items()})["probability"]
        if not np.allclose(got, expected[rows], atol=1e-6):
            failures.append(index)
threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
facts["thread_failures"] = failures
facts["largest"] = float(np.abs(session.run("serving_default", probes)["probability"] - expected).max())
item = np.array([[100, 7]])
facts["found"] = session.run("item_projection", {"item": item})["found"].tolist()
facts["signatures"] = sorted(session.signatures)
facts["errors"] = {
    "signature": error(lambda: session.run("nope", {})),
    "missing": error(lambda: session.run("item_projection", {})),
    "extra": error(lambda: session.run("item_projection", {"item": item, "b": item})),
    "output": error(lambda: session.run("item_projection", {"item": item}, ["nope"])),
    "dtype": error(lambda: session.run("item_projection", {"item": item.astype(np.int32)})),
    "graph": error(lambda: CppSession(root / "stale_table").run("self_check", {"probe": [1]})),
    "tags": error(lambda: CppSession(root / "good", ["train"])),
}
session.close(); session.close()
facts["tensorflow"] = [name for name in sys.modules if name.split(".")[0] == "tensorflow"]
print(json.dumps(facts))
"""


@pytest.fixture(scope="module")
def facts(toys, run_python):
    return run_python(RUN, toys)


def test_it_equals_python_and_never_imports_tensorflow(facts):
    assert facts["tensorflow"] == []
    assert facts["largest"] <= 1e-6
    assert facts["found"] == [[True, False]]
    assert facts["signatures"] == ["item_projection", "live_projection", "retrieve", "self_check", "serving_default"]


def test_threads_get_their_own_answers(facts):
    assert facts["thread_failures"] == []


def test_every_type_travels(facts):
    assert facts["text"] and facts["joined"]
    assert facts["rest"] == [[False, True], 3.0, [[[2.0]] * 3] * 2, [5, 102, 0]]
    assert facts["empty"] == [[0]]
    assert facts["inputs"] == {
        "flag": ["bool", [-1]],
        "half": ["float16", []],
        "number": ["float32", None],
        "text": ["string", [-1]],
    }


def test_outputs_are_read_only_and_outlive_the_session(facts):
    assert facts["writeable"] is False
    assert facts["kept_after_close"] == [[[2.0]] * 3] * 2
    assert facts["closed"][:2] == ["FailedPreconditionError", "FAILED_PRECONDITION"]
    assert facts["filtered"] == ["half"]


@pytest.mark.parametrize(
    ("case", "status", "words"),
    [
        ("signature", "FAILED_PRECONDITION", 'Serving signature key "nope" not found.'),
        ("missing", "INVALID_ARGUMENT", "missing: item"),
        ("extra", "INVALID_ARGUMENT", "unknown: b"),
        ("output", "INVALID_ARGUMENT", "unknown: nope"),
        ("dtype", "INVALID_ARGUMENT", "to be int64 but int32 is provided"),
        ("graph", "INVALID_ARGUMENT", "the table disagrees with the weights"),
        ("tags", "NOT_FOUND", "Could not find meta graph def matching supplied tags"),
    ],
)
def test_errors_carry_their_code(facts, case, status, words):
    assert facts["errors"][case][1] == status
    assert words in facts["errors"][case][2]


def test_a_directory_that_is_no_model_is_one_sentence(tmp_path):
    with pytest.raises(NotFoundError, match="is no model directory: it holds no saved_model.pb$"):
        CppSession(tmp_path)


def test_a_missing_tensorflow_is_one_sentence(toys, run_python):
    code = """
import importlib.util, json, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "tensorflow" else find(name, *rest)
from export.session.cpp_session import CppSession
try:
    CppSession(sys.argv[1])
except Exception as error:
    print(json.dumps([type(error).__name__, str(error)]))
"""
    name, message = run_python(code, toys / "good")
    assert name == "NotFoundError"
    assert message.startswith("TensorFlow's C++ library is missing: no package tensorflow is installed; install")


def test_shapes_of_outputs_follow_the_inputs(toys, run_python):
    code = """
import json, sys
import numpy as np
from export.session.cpp_session import CppSession
with CppSession(sys.argv[1]) as session:
    shapes = [session.run("item_projection", {"item": np.zeros(s, np.int64)})["projection"].shape
              for s in ((1, 1), (3, 2), (0, 4), (2, 0))]
print(json.dumps(shapes))
"""
    assert run_python(code, toys / "good") == [[1, 1, 8], [3, 2, 8], [0, 4, 8], [2, 0, 8]]
    assert np.load(toys / "python_result.npz")["probability"].shape == (7, 5)
