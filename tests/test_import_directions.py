"""Imports run down: a room may import those that are listed before it in its package, and nothing above."""

import ast
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[1]

ORDER = {
    "twin_tf": (
        "core", "features", "renamed_settings", "search_settings", "training_settings", "config", "records", "layers",
        "search", "models", "runs", "evaluation", "training", "experiments", "cli",
    ),
    "beam_pipelines": (
        "io", "raw_logs", "datasets", "data_report", "examples", "clustering", "build_examples", "cluster_histories",
        "import_dataset", "project_items", "simulate_logs",
    ),
    "export": ("protos", "contract", "session", "client", "saved_model", "gate", "publishing", "local_server"),
}  # fmt: skip
"""Package -> its rooms and the programs at its top; each may import those before it."""

ABOVE_ALL = {"twin_tf.experiments", "twin_tf.cli"}
"""They alone import other packages than `twin_tf`."""

NOT_FOR_OTHERS = {"export.local_server": {"twin_tf.experiments"}}
"""A development tool: nothing imports it but the studies, which need a server."""

NO_TENSORFLOW = (
    "export.contract", "export.session", "export.client", "export.gate", "export.local_server", "twin_tf.features",
)  # fmt: skip


def room_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def modules():
    """Module -> its file."""
    files = (path for package in ORDER for path in (ROOT / package).rglob("*.py") if "_pb2" not in path.name)
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


MODULES = modules()


def imported(path: Path) -> set[str]:
    """The modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{name.name}" for name in node.names}
            found |= inner & MODULES.keys() or {node.module}
    return found


def edges():
    """(importing module, imported module of this project), for rooms that differ."""
    for module, path in MODULES.items():
        for other in imported(path):
            if other.split(".")[0] in ORDER and room_of(other) != room_of(module):
                yield module, other


def test_every_module_lies_in_a_room_of_the_order():
    inside = {room_of(module) for module in MODULES if "." in module}
    assert inside == {f"{package}.{room}" for package, rooms in ORDER.items() for room in rooms}


def test_imports_run_down():
    wrong = []
    for module, other in edges():
        (mine, *_), (theirs, *_) = module.split("."), other.split(".")
        if "." not in other:
            continue  # a package itself: its version, or a public name
        if mine == theirs:
            order = [f"{mine}.{room}" for room in ORDER[mine]]
            if order.index(room_of(other)) > order.index(room_of(module)):
                wrong.append((module, other))
        elif theirs != "twin_tf" and room_of(module) not in ABOVE_ALL or room_of(other) in ABOVE_ALL:
            wrong.append((module, other))
    assert not wrong


def test_nothing_imports_the_development_server():
    for module, other in edges():
        if room_of(other) in NOT_FOR_OTHERS:
            assert room_of(module) in NOT_FOR_OTHERS[room_of(other)], (module, other)


@pytest.mark.parametrize("room", NO_TENSORFLOW)
def test_rooms_that_do_without_tensorflow(room):
    """Nothing that they import, directly or not, is TensorFlow or Keras."""
    left, seen = [module for module in MODULES if room_of(module) == room], set()
    while left:
        module = left.pop()
        if module in seen or module not in MODULES:
            continue
        seen.add(module)
        others = imported(MODULES[module])
        assert not {name for name in others if name.split(".")[0] in ("tensorflow", "tf_keras")}, module
        left += others & MODULES.keys()
    assert "twin_tf.core.keras_api" not in seen
