"""The pages of keys: every field of every dataclass that a configuration file may hold, with type, default, meaning."""

import dataclasses
import importlib.util
import re

import pytest

from tests.docs.pages import ROOT, text_of
from twin_tf.features.feature import RESERVED_NAMES, Encoding, Feature
from twin_tf.features.schema import PIPELINE_NAMES

pytest.importorskip("griffe", reason="the extra docs is not installed")


@pytest.fixture(scope="module")
def tables():
    """docs/reference_tables.py, which the site's hook imports by its name alone."""
    spec = importlib.util.spec_from_file_location("reference_tables", ROOT / "docs/reference_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["schema", "settings"])
def test_every_key_has_type_default_and_meaning(tables, page):
    shown = tables.filled(text_of(ROOT / f"docs/{page}.md"))
    assert "<!--" not in shown
    classes = tables.reachable(page)
    assert len(classes) > 8 and len(set(re.findall(r"\{: #([a-z-]+) \}", shown))) == len(classes)
    for cls, places in classes.items():
        part = shown.split("## " + ", ".join(f"`{place}`" for place in places) + " {")[1].split("\n## ")[0]
        rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \| (.+) \|$", part, flags=re.MULTILINE)
        assert [row[0] for row in rows] == [field.metadata.get("key", field.name) for field in dataclasses.fields(cls)]


def test_a_dataclass_is_shown_once_with_all_its_places(tables):
    places = tables.reachable("schema")
    assert places[Feature] == ["schema.features[]"] and places[Encoding] == ["schema.features[].encoding"]
    assert any({"schema.events.user", "schema.items", "schema.users"} <= set(found) for found in places.values())


def test_types_and_defaults_are_written_for_people(tables):
    (part,) = (part for part in tables.sections("schema") if "{: #encoding }" in part)
    assert "| `kind` | `vocabulary`, `hash`, `numeric`, `identity` | **needed** |" in part
    assert "| `min_count` | whole number | `1` | A vocabulary keeps values seen at least this often. |" in part
    assert "| `boundaries` | list of: number | none |" in part


def test_a_key_without_a_meaning_fails_the_build(tables):
    @dataclasses.dataclass
    class Bare:
        """A section.

        Attributes:
            said: what it is.
        """

        said: int
        unsaid: int

    with pytest.raises(ValueError, match="Bare says nothing of unsaid"):
        tables.described(Bare)


def test_every_reserved_name_is_listed(tables):
    shown = tables.filled(text_of(ROOT / "docs/schema.md"))
    assert {
        name for name in RESERVED_NAMES | PIPELINE_NAMES if f"`{name}`" not in shown.split("## `schema`")[0]
    } == set()
