"""README and docs/: links lead somewhere, equations and errors are those of the code, figures those of the data."""

import ast
import re
import runpy

import pytest
import yaml

from tests.docs.pages import NAMES, PAGES, README, ROOT, text_of

LINK = re.compile(r"\[(?P<text>[^\[\]]*)\]\((?P<path>[^()#\s]*)(?P<anchor>#[^()\s]*)?\)")
FIGURES = ROOT / "docs/figures"
DOCS = ROOT / "docs"


def anchors(text):
    """The anchors of a page's headings and of its explicit ones."""
    titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles} | set(
        re.findall(r'id="([a-z]+)"', text)
    )


@pytest.mark.parametrize("page", [*PAGES, ROOT / "ARCHITECTURE.md"], ids=[*NAMES, "ARCHITECTURE.md"])
def test_each_link_leads_somewhere(page):
    for match in LINK.finditer(re.sub(r"^```.*?^```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)):
        if re.match(r"[a-z]+:", match["path"]):
            continue
        target = (page.parent / match["path"]).resolve() if match["path"] else page
        assert target.exists(), match[0]
        if match["anchor"] and target.suffix == ".md":
            assert match["anchor"][1:] in anchors(text_of(target)), match[0]


@pytest.mark.parametrize("page", ["equations.md", "concepts.md"])
def test_each_linked_name_is_in_its_file(page):
    found = [match for match in LINK.finditer(text_of(DOCS / page)) if match["path"].endswith(".py")]
    assert len(found) > 15
    for match in (match for match in found if not match["text"].strip("`").endswith(".py")):
        nodes = [ast.parse((DOCS / match["path"]).read_text(encoding="utf-8"))]
        for part in match["text"].strip("`").split("."):
            nodes = [node for node in nodes[0].body if getattr(node, "name", None) == part]
            assert nodes, f"{match['text']} is not in {match['path']}"


def sentences():
    """Every text in the code, placeholders as <>."""
    for folder in ("twin_tf", "export", "beam_pipelines"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = [part.value if isinstance(part, ast.Constant) else "<>" for part in node.values]
                    yield "".join(map(str, parts)).replace("`", "")
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value.replace("`", "")


def test_each_error_explained_is_one_of_the_code():
    messages = re.findall(r"^\| `([^`]+)` \|", text_of(DOCS / "faq.md"), flags=re.MULTILINE)
    assert len(messages) > 30
    said = set(sentences())
    for message in messages:
        longest = max(re.split(r"<[^>]*>", message), key=len)  # few sentences hold it: the others are not searched
        pattern = re.compile(".*".join(re.escape(part) for part in re.split(r"<[^>]*>", message)), flags=re.DOTALL)
        assert any(pattern.search(sentence) for sentence in said if longest in sentence), message


def test_figures_shown_are_those_of_the_data_file():
    """Each figure of the data file is in docs/results.md with its command; the README's tables have no others."""
    data = yaml.safe_load((FIGURES / "results.yaml").read_text(encoding="utf-8"))["data_sets"]
    results, known = text_of(DOCS / "results.md"), set()
    for data_set in data:
        assert data_set["command"] in results and data_set["commit"] in results
        for system in data_set["systems"]:
            shown = {f"{system[metric]:.4f}".lstrip("0") for metric in ("auc", "gauc")}
            assert [figure for figure in shown if figure not in results] == [], (data_set["name"], system)
            known |= shown
    tables = "\n".join(line for line in text_of(README).splitlines() if line.startswith("|"))
    shown = set(re.findall(r"(?<!± )(?<=\s)\.\d{4}", tables))
    assert len(shown) > 20
    assert shown <= known


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """All figures, drawn anew."""
    folder = tmp_path_factory.mktemp("figures")
    runpy.run_path(str(FIGURES / "draw.py"))["draw"](folder)
    return folder


def test_figures_are_drawn_from_their_sources(drawn):
    """What is written in a picture is what its source writes; another matplotlib may move a line by a hair."""
    names = sorted(path.name for path in drawn.iterdir())
    assert names == sorted(path.name for path in FIGURES.glob("*.svg"))
    for name in names:
        new, kept = (re.findall(r"<!-- (.*?) -->", (folder / name).read_text()) for folder in (drawn, FIGURES))
        assert new == kept, f"{name}: run `make figures`"


def test_versions_are_those_of_setup_and_lock():
    page, lock = text_of(DOCS / "compatibility.md"), (ROOT / "requirements.lock").read_text(encoding="utf-8")
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    for label, package in (
        ("TensorFlow", "tensorflow"), ("tf_keras", "tf-keras"), ("Apache Beam", "apache-beam"),
        ("tensorflow-recommenders", "tensorflow-recommenders"), ("gRPC for Python", "grpcio"),
    ):  # fmt: skip
        (locked,) = re.findall(rf"^{package}==([\d.]+)", lock, flags=re.MULTILINE)
        (row,) = re.findall(rf"^\| {re.escape(label)} \| (.*)$", page, flags=re.MULTILINE)
        assert row.split(" | ")[1] == locked, label
        (least,) = set(re.findall(rf"\"{package.replace('-', '[-_]')}>=([\d.]+)", setup))
        assert row.startswith(least), label
    (python,) = re.findall(r'python_requires=">=3.(\d+),<3.(\d+)"', setup)
    assert "| Python | " + ", ".join(f"3.{minor}" for minor in range(*map(int, python))) in page


def test_the_site_builds_strictly(tmp_path):
    pytest.importorskip("mkdocs", reason="the extra docs is not installed")
    pytest.importorskip("mkdocstrings", reason="the extra docs is not installed")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path), strict=True))
    for page in DOCS.glob("*.md"):
        assert (tmp_path / ("" if page.stem == "index" else page.stem) / "index.html").is_file()
    assert not re.findall(r'(?:src|href)="https?://[^"]*\.(?:js|css)"', (tmp_path / "index.html").read_text())
