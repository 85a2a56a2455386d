"""Python that README and docs/ show: the README's layer runs as shown, the rest parses and imports what exists."""

import ast
import importlib
import os
import re
import subprocess
import sys

import pytest

from tests.docs.pages import NAMES, PAGES, README, ROOT, blocks, text_of

pytestmark = pytest.mark.integration


def test_the_layer_of_the_readme_runs_and_prints_what_it_says(tmp_path):
    (code,) = blocks(text_of(README), "python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("TF_USE_LEGACY_KERAS", None)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    promised = re.findall(r"print\(.*\)  # (\([\d, ]+\))", code)
    assert done.stdout.splitlines() == promised
    assert len(promised) == 3


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_python_shown_parses_and_imports_what_exists(page):
    for code in blocks(text_of(page), "python"):
        for node in ast.walk(ast.parse(code)):
            ours = isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in ("twin_tf", "export")
            if ours:
                module = importlib.import_module(node.module)
                assert [name.name for name in node.names if not hasattr(module, name.name)] == []


def test_the_readme_can_be_read_in_five_minutes():
    words = [word for word in re.split(r"[\s|]+", text_of(README)) if re.search(r"\w", word)]
    assert len(words) < 650
