"""The tables of docs/schema.md and docs/settings.md: every key of a configuration file, from its dataclasses.

    python docs/reference_tables.py schema          # prints what the site shows in place of `<!-- keys: schema -->`

Types and defaults are those of the fields, what a key means is the `Attributes:` section of its dataclass. So a key
that is added with its docstring is in the reference; without one the build of the site fails.
"""

import dataclasses
import logging
import re
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import griffe

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from twin_tf.config import ClusterConfig, ModelConfig, ServingConfig  # noqa: E402
from twin_tf.core.dataclass_yaml import to_plain  # noqa: E402
from twin_tf.core.yaml_text import dump_yaml  # noqa: E402
from twin_tf.features.feature import RESERVED_NAMES  # noqa: E402
from twin_tf.features.schema import PIPELINE_NAMES, FeatureSchema  # noqa: E402
from twin_tf.training_settings import TrainingConfig  # noqa: E402

ROOTS: Mapping[str, Mapping[str, type]] = {
    "schema": {"schema": FeatureSchema},
    "settings": {
        "model": ModelConfig,
        "training": TrainingConfig,
        "serving": ServingConfig,
        "clusters": ClusterConfig,
    },
}
"""Page -> sections of a configuration file -> their dataclasses."""

MARK = re.compile(r"^<!-- (?P<what>keys|reserved names)(?:: (?P<page>\w+))? -->$", re.MULTILINE)
_PLAIN: Mapping[Any, str] = {int: "whole number", float: "number", str: "text", bool: "true or false", Any: "any value"}


def filled(markdown: str) -> str:
    """A page with the tables in place of its marks."""

    def tables(match: re.Match[str]) -> str:
        return reserved_names() if match["what"] == "reserved names" else "\n\n".join(sections(match["page"]))

    return MARK.sub(tables, markdown)


def reachable(page: str) -> dict[type, list[str]]:
    """The dataclasses of a page in the order of their keys, and every place of each, such as `schema.events.user`."""
    found: dict[type, list[str]] = {}

    def look(cls: type, place: str) -> None:
        found.setdefault(cls, []).append(place)
        hints = typing.get_type_hints(cls)
        for field in dataclasses.fields(cls):
            for inner, suffix in _dataclasses_in(hints[field.name]):
                look(inner, f"{place}.{field.name}{suffix}")

    for name, cls in ROOTS[page].items():
        look(cls, name)
    return found


def sections(page: str) -> Iterator[str]:
    """Markdown of each dataclass of a page: heading, what it is, and a table with a row for each key."""
    for cls, places in reachable(page).items():
        summary, meanings = described(cls)
        head = ", ".join(f"`{place}`" for place in places)
        rows = [f"## {head} {{: #{_anchor(cls)} }}", "", summary, ""]
        rows += ["| key | type | default | meaning |", "|---|---|---|---|"]
        hints = typing.get_type_hints(cls)
        for field in dataclasses.fields(cls):
            key = field.metadata.get("key", field.name)
            cells = (f"`{key}`", type_text(hints[field.name]), default_text(field), meanings[field.name])
            rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
        yield "\n".join(rows)


def described(cls: type) -> tuple[str, dict[str, str]]:
    """What a dataclass is, and field -> meaning.

    Raises:
        ValueError: a field has no line under `Attributes:`.
    """
    logging.getLogger("griffe").setLevel(logging.ERROR)  # types stand in the fields, not in the docstring
    parsed = griffe.Docstring(cls.__doc__ or "", parser="google").parse()
    texts = [str(part.value) for part in parsed if part.kind is griffe.DocstringSectionKind.text]
    named = [part.value for part in parsed if part.kind is griffe.DocstringSectionKind.attributes]
    meanings = {one.name: " ".join(one.description.split()) for attributes in named for one in attributes}
    for name, hint in typing.get_type_hints(cls).items():
        for inner, _ in _dataclasses_in(hint):  # a section that says itself what it is
            meanings.setdefault(name, (inner.__doc__ or "").partition("\n")[0])
    missing = [field.name for field in dataclasses.fields(cls) if not meanings.get(field.name)]
    if missing:
        raise ValueError(f"the docstring of {cls.__module__}.{cls.__name__} says nothing of {', '.join(missing)}")
    return "\n\n".join(texts), {name: _sentence(text) for name, text in meanings.items()}


def type_text(hint: Any) -> str:
    """A field's type for people."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_text(one) for one in arguments if one is not type(None))
    if origin is typing.Literal:
        return ", ".join(f"`{one}`" for one in arguments)
    if origin is tuple:
        return f"list of: {type_text(arguments[0])}"
    if origin is not None and issubclass(origin, Mapping):
        return f"mapping of name to {type_text(arguments[1])}"
    if dataclasses.is_dataclass(hint):
        return f"[section](#{_anchor(hint)})"
    return _PLAIN.get(hint) or getattr(hint, "__name__", str(hint))


def default_text(field: "dataclasses.Field[Any]") -> str:
    """What a key means that is left out: its value as YAML, or that it is needed."""
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
        return "its defaults" if dataclasses.is_dataclass(value) else _yaml(value)
    return "**needed**" if field.default is dataclasses.MISSING else _yaml(field.default)


def reserved_names() -> str:
    """Which names no feature may have."""
    always, stored = (", ".join(f"`{name}`" for name in sorted(names)) for names in (RESERVED_NAMES, PIPELINE_NAMES))
    return f"* No feature may be called {always}.\n* No cross or context feature that is read from a column: {stored}."


def _dataclasses_in(hint: Any) -> Iterator[tuple[type, str]]:
    """The dataclasses that a field may hold, and `[]` where it holds a list of them."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        yield hint, ""
    listed = typing.get_origin(hint) is tuple
    for argument in typing.get_args(hint):
        for inner, suffix in _dataclasses_in(argument):
            yield inner, f"[]{suffix}" if listed else suffix


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] if re.match("[a-z]+[ :;,]", text) else text  # not `d_k` and its like


def _anchor(cls: type) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", cls.__name__).lower()


def _yaml(value: Any) -> str:
    if value is None:
        return "none"
    if value == "":
        return "empty"
    plain = to_plain(value)
    text = dump_yaml({"x": plain}).removeprefix("x:").strip() if not isinstance(plain, list) else str(plain)
    return f"`{text}`"


if __name__ == "__main__":
    for part in sections(sys.argv[1]):
        print(part, end="\n\n")
