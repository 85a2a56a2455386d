"""Each role's extra is enough for its commands; without it a command says in one sentence what to install."""

import ast
import json
import re
import runpy
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from export.session.child_process import child_environment
from tests.engines.worker_environment import required_distributions
from tests.packaging.checkout import REPOSITORY
from tests.patience import PATIENCE_S
from twin_tf.cli.extras import EXTRAS
from twin_tf.cli.main import main

pytestmark = pytest.mark.integration

BASE_ALONE = {"simulate", "import"}
HEAVY = {"tensorflow", "tf-keras", "apache-beam", "scikit-learn", "matplotlib"}

# Runs commands where no package of an extra can be imported, and prints [exit code, stdout, stderr] of each.
WITHOUT_EXTRAS = """
import json, sys
for name in ("tensorflow", "tf_keras", "tensorflow_recommenders", "apache_beam", "grpc", "sklearn", "scipy",
             "matplotlib", "tensorboard"):
    sys.modules[name] = None
from click.testing import CliRunner
from twin_tf.cli.main import main
found = [CliRunner().invoke(main, arguments, prog_name="twin-tf") for arguments in json.loads(sys.argv[1])]
print(json.dumps([[one.exit_code, one.stdout, one.stderr or repr(one.exception)] for one in found]))
"""
DATA, RUN = ("--prepared", "prepared"), ("--run", "run")
COMMANDS = [
    ("preprocess", "--config", "simulated", "--events", "x", "--output", "new"),
    ("cluster", "--config", "simulated", *DATA, *RUN, "--output", "new"),
    ("item-embeddings", *DATA, "--output", "new"),
    ("train", "--config", "simulated", *DATA, "--run", "new"),
    ("evaluate", *DATA, *RUN),
    ("inspect", *RUN),
    ("score", *DATA, *RUN, "--output", "new.parquet"),
    ("compare", "--config", "simulated", *DATA, "--output", "new"),
    ("export", *RUN, "--output", "new"),
    ("validate", "model"),
    ("publish", "model", "--base-path", "base"),
    ("refresh", "--base-path", "base", *RUN),
    ("rollback", "--base-path", "base"),
    ("serve", "--base-path", "base"),
    ("predict", "--model", "model", "--replay"),
]


@pytest.fixture(scope="module")
def setup_py() -> dict[str, Any]:
    """The variables of setup.py, which is read and not run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("setuptools.setup", lambda **arguments: None)
        return runpy.run_path(str(REPOSITORY / "setup.py"))


def names(requirements: list[str], extra: str = "") -> set[str]:
    found = required_distributions([Requirement(line) for line in requirements], extra)
    return {re.sub(r"[-_.]+", "-", one.name).lower() for one in found}


def without_extras(calls: list[tuple[str, ...]], directory: Path) -> list[tuple[int, str, str]]:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS, json.dumps(calls)],
        cwd=directory,
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_command_has_an_extra_or_needs_none(setup_py: dict[str, Any]) -> None:
    assert set(EXTRAS) | BASE_ALONE == set(main.commands)
    assert set(EXTRAS.values()) <= set(setup_py["EXTRAS"])
    assert {arguments[0] for arguments in COMMANDS} == set(EXTRAS)


def test_without_its_extra_a_command_is_one_sentence(tmp_path: Path) -> None:
    found = without_extras(COMMANDS, tmp_path)
    for (name, *_), (code, output, error) in zip(COMMANDS, found, strict=True):
        install = re.escape(f"pip install 'twin-tf[{EXTRAS[name]}]'")
        assert re.fullmatch(rf"Error: twin-tf {name} needs (Apache Beam|TensorFlow|grpcio): {install}\n", error), error
        assert (code, output) == (2, "")
    assert list(tmp_path.iterdir()) == []


def test_with_json_the_sentence_is_json(tmp_path: Path) -> None:
    ((code, output, _),) = without_extras([("evaluate", *DATA, *RUN, "--json")], tmp_path)
    sentence = "twin-tf evaluate needs TensorFlow: pip install 'twin-tf[train]'"
    assert (code, json.loads(output)) == (2, {"error": sentence, "exit_code": 2})


def test_the_base_install_simulates_logs_and_shows_help(tmp_path: Path) -> None:
    small = ("--users", "60", "--set", "items=3000", "--set", "median_history=100")
    calls = [("simulate", *small, "--output", "logs"), ("import", "--help"), ("train", "--help")]
    assert [code for code, _, _ in without_extras(calls, tmp_path)] == [0, 0, 0]
    assert (tmp_path / "logs/events.parquet").exists()


def test_an_extra_brings_what_its_role_needs_and_no_more(setup_py: dict[str, Any]) -> None:
    extras: dict[str, list[str]] = setup_py["EXTRAS"]
    brought = {name: names(setup_py["LIGHT"] + required) for name, required in extras.items()}
    assert names(setup_py["LIGHT"]) & (HEAVY | {"grpcio"}) == set()
    assert brought["client"] & HEAVY == set()
    assert brought["serving"] & HEAVY == {"tensorflow", "tf-keras"}
    assert brought["train"] & HEAVY == HEAVY - {"apache-beam"}
    assert brought["pipelines"] & HEAVY == {"apache-beam", "matplotlib"}
    assert brought["pipelines"] < brought["gcp"]
    assert extras["beam"] == extras["pipelines"]
    roles = ("client", "serving", "train", "pipelines", "gcp", "demo")
    assert set(extras["all"]) == {line for role in roles for line in extras[role]}


ROOMS = {
    "export/client": {"client"},
    "export/contract": {"client"},
    "export/protos": {"client"},
    "export": {"serving"},
    "twin_tf/experiments": {"train", "serving"},
    "twin_tf": {"train"},
    "beam_pipelines/project_items.py": {"gcp", "train"},
    "beam_pipelines/clustering": {"gcp", "train"},
    "beam_pipelines": {"gcp", "demo"},
}
"""Folder or file -> the extras that bring whatever it imports, in a function too; the first that fits counts."""


def third_party(path: Path) -> set[str]:
    """Top-level modules of other projects that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found - sys.stdlib_module_names - {"twin_tf", "export", "beam_pipelines", "__future__"}


def test_whatever_a_room_imports_comes_with_its_extra(setup_py: dict[str, Any]) -> None:
    extras, owners, missing = setup_py["EXTRAS"], packages_distributions(), set()
    brought = {name: names(setup_py["LIGHT"] + required) for name, required in extras.items()}
    for package in ("twin_tf", "export", "beam_pipelines"):
        for path in (REPOSITORY / package).rglob("*.py"):
            place = path.relative_to(REPOSITORY).as_posix()
            roles = next(roles for room, roles in ROOMS.items() if place == room or place.startswith(f"{room}/"))
            for module in third_party(path):
                found = {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners.get(module, [module])}
                if not any(found & brought[role] for role in roles):
                    missing.add((place, module))
    assert not missing
