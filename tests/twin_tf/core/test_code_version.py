"""The digest that ties results to code."""

import ast
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from twin_tf.core import code_version
from twin_tf.core.code_version import code_digest


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    yield
    code_version.code_digest.cache_clear()
    code_version._asked.clear()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of three modules: `twin_tf.a` imports `twin_tf.b`, late."""
    monkeypatch.setattr(code_version, "ROOT", tmp_path)
    package = tmp_path / "twin_tf"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text('"""Text."""\nimport json\n\ndef f():\n    from twin_tf import b\n    return b.g()\n')
    (package / "b.py").write_text("def g():\n    return 1\n")
    (package / "c.py").write_text("x = 1\n")
    return package


def digest(*modules: str) -> str:
    code_version.code_digest.cache_clear()
    return code_digest(*modules)


@pytest.mark.parametrize(
    ("name", "text", "same"),
    [
        ("a.py", "import json\n\n\ndef f():\n    from twin_tf import b  # late\n\n    return b.g()\n", True),
        ("b.py", 'def g():\n    """Another text."""\n    return 1\n', True),
        ("b.py", "def g():\n    return 2\n", False),
        ("__init__.py", "y = 1\n", False),
        ("c.py", "x = 2\n", True),
    ],
)
def test_what_computes_counts_and_texts_do_not(project: Path, name: str, text: str, same: bool) -> None:
    before = digest("twin_tf.a")
    (project / name).write_text(text)
    assert (digest("twin_tf.a") == before) is same


def test_a_change_since_is_noticed(project: Path) -> None:
    digest("twin_tf.a")
    (project / "c.py").write_text("x = 2\n")  # of no interest
    assert not code_version.code_changed()
    (project / "b.py").write_text("def g():\n    return 3\n")
    assert code_version.code_changed()


def test_only_one_thread_parses_at_a_time(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.11 sometimes fails with a SystemError when two do."""
    parse, inside, most = ast.parse, [], []

    def slow_parse(content: bytes, *given: object) -> ast.Module:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.01)
        inside.pop()
        return parse(content, *given)

    monkeypatch.setattr(ast, "parse", slow_parse)
    code_version._parsed_source.cache_clear()
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(lambda _: code_version._digest(("twin_tf.a", "twin_tf.c")), range(8)))
    assert len(found) == 1 and max(most) == 1


def test_another_version_of_a_library_is_other_code(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest("twin_tf.experiments.experiment")
    monkeypatch.setattr(code_version, "_library_version", lambda name: "99")
    assert digest("twin_tf.experiments.experiment") != before


def test_a_training_depends_on_every_search_but_not_on_reports() -> None:
    found = code_version._imported(("twin_tf.training.train",))
    assert {"twin_tf.search.eta", "twin_tf.layers.relevance", "twin_tf.config", "twin_tf"} <= found
    assert not {
        name
        for name in found
        if name.startswith(("twin_tf.experiments.comparison", "twin_tf.experiments.demo", "export"))
    }


def test_no_module_of_the_project_is_imported_by_a_relative_name() -> None:
    """Such an import would not be followed."""
    for package in code_version.PACKAGES:
        for path in (code_version.ROOT / package).rglob("*.py"):
            levels = [node.level for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.ImportFrom)]
            assert not any(levels), path


def test_a_module_of_nobody_is_refused() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"twin_tf\.nothing is no module of"):
        digest("twin_tf.nothing")
