"""What the site needs beyond docs/: every file of the repository that a page links to becomes a page of its own.

In a repository browser `[Relevance](../twin_tf/layers/relevance.py)` works as it stands. In the site the same link
leads to a page with that file's source, at the line where `Relevance` begins. Markdown files at the top of the
repository become pages beside those of docs/. Where a page holds `<!-- keys: schema -->` it shows the tables of
`reference_tables`.
"""

import ast
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from reference_tables import filled

ROOT = Path(__file__).parents[1]
TOP_PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""Markdown at the top of the repository -> its page in the site."""

LINK = re.compile(r"\[(?P<text>[^\[\]]*)\]\((?P<path>[^()#\s:]+)(?P<anchor>#[^()\s]*)?\)")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".cff": "yaml", ".json": "json", ".sh": "sh", ".md": "markdown"}


def source_page(path: str) -> str:
    """The page of the site that shows a file or folder of the repository."""
    return TOP_PAGES.get(path, f"source/{path.rstrip('/')}.md")


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages of linked files."""
    texts = [Path(file.abs_src_path).read_text(encoding="utf-8") for file in files.documentation_pages()]
    linked = {name: f"../{name}" for name in TOP_PAGES if name != "README.md"}
    waiting = [path for text in texts for path in _outside(text, "docs")]
    waiting += [path for name in linked for path in _outside((ROOT / name).read_text(encoding="utf-8"), ".")]
    seen: set[str] = set()
    while waiting:
        path = waiting.pop()
        if path in seen or path in TOP_PAGES:
            continue
        seen.add(path)
        if (ROOT / path).is_dir():
            waiting += [child.relative_to(ROOT).as_posix() for child in _shown(ROOT / path)]
        files.append(File.generated(config, source_page(path), content=_source(path)))
    for name in linked:
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, TOP_PAGES[name], content=_rewritten(text, ".", TOP_PAGES[name])))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Leads links out of docs/ to the pages of the site, and fills in the tables that are made of the code."""
    uri = page.file.src_uri
    return markdown if page.file.abs_src_path is None else filled(_rewritten(markdown, "docs", uri))


def _outside(text: str, folder: str) -> list[str]:
    """Paths below the repository, but not below docs/, that a text in `folder` links to."""
    found = (_resolved(match["path"], folder) for match in LINK.finditer(text))
    return [path for path in found if not path.startswith("docs/") and (ROOT / path).exists()]


def _resolved(path: str, folder: str) -> str:
    return (ROOT / folder / path).resolve().relative_to(ROOT).as_posix() if path.startswith(".") or path else path


def _rewritten(text: str, folder: str, uri: str) -> str:
    def link(match: re.Match[str]) -> str:
        path = _resolved(match["path"], folder)
        anchor = match["anchor"] or ""
        if path.startswith("docs/"):
            return f"[{match['text']}]({path.removeprefix('docs/')}{anchor})"
        if not (ROOT / path).exists():
            return match[0]
        if path == "README.md":
            anchor = ""  # the home page has other sections
        up = "../" * uri.count("/")
        line = _line(ROOT / path, match["text"].strip("`"))
        return f"[{match['text']}]({up}{source_page(path)}{f'#__codelineno-0-{line}' if line else anchor})"

    return LINK.sub(link, text)


def _line(path: Path, name: str) -> int:
    """Where a class, function or method of a Python file begins; 0 if it has none of that name."""
    if path.suffix != ".py":
        return 0
    nodes: list[Any] = [ast.parse(path.read_text(encoding="utf-8"))]
    for part in name.split("."):
        nodes = [child for child in nodes[0].body if getattr(child, "name", None) == part]
        if not nodes:
            return 0
    return int(nodes[0].lineno)


def _shown(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if not child.name.startswith((".", "__")))


def _source(path: str) -> str:
    """The page of a file, or of a folder's files."""
    head = f"---\nsearch: {{exclude: true}}\n---\n# {path}\n\n"
    if (ROOT / path).is_dir():
        name = Path(path).name
        return head + "\n".join(f"* [{child.name}]({name}/{child.name}.md)" for child in _shown(ROOT / path)) + "\n"
    text = (ROOT / path).read_text(encoding="utf-8")
    return f"{head}~~~~~~{LANGUAGES.get(Path(path).suffix, 'text')}\n{text}\n~~~~~~\n"
