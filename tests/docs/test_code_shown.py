"""Python that README and docs/ show: the README's layer runs as shown, the rest parses and imports what exists."""

import ast
import importlib
import re

import pytest

from tests.docs.pages import NAMES, PAGES, README, blocks, text_of


def test_the_layer_of_the_readme_runs_and_prints_what_it_says(capsys):
    (code,) = blocks(text_of(README), "python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    exec(compile(code, "README.md", "exec"), {})
    promised = re.findall(r"print\(.*\)  # (\([\d, ]+\))", code)
    assert capsys.readouterr().out.split("\n")[:-1] == promised
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
    assert len(words) < 750
