"""YAML and JSON that people wrote, to plain values; whatever is wrong with them is one sentence.

YAML means what the core schema of YAML 1.2 says: `010` is ten, `0o14` twelve, `1e3` a number; `1:30`, `yes`, `on`,
`1_000` and `2026-01-31` are text, and `<<` is a key like any other. PyYAML alone reads YAML 1.1, keeps the last of two
equal keys without a word, and ends in tracebacks on what is not UTF-8, nested deeply or a number of many digits.

Anchors and aliases are read (`dim: &id 64`, then `dim: *id`), as long as what they stand for stays small.
"""

import json
import math
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from twin_tf.core.dataclass_yaml import ConfigError

DEEPEST = 50
"""Levels of nesting."""

MOST_NODES = 100_000
"""Values of a text, those counted again that an alias repeats."""

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")
_TAG = "tag:yaml.org,2002:"
_CORE = {
    "null": (re.compile(r"^(?:null|Null|NULL|~|)$"), ["~", "n", "N", ""]),
    "bool": (re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    "int": (re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"), list("-+0123456789")),
    "float": (
        re.compile(
            r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
        ),
        list("-+.0123456789"),
    ),
}
"""Type -> what a plain scalar of it looks like, and how it begins; YAML 1.2.2, section 10.3.2. All else is text."""

_BYTE_ORDER_MARKS = {
    b"\xff\xfe\x00\x00": "UTF-32", b"\x00\x00\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"
}  # fmt: skip


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Reads a YAML file that must hold a mapping.

    Raises:
        ConfigError: the file is missing, is no UTF-8 or no YAML, has a key twice, or is not a mapping.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    data = parse_yaml(content, str(path))
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must hold a mapping of keys, not {type(data).__name__}")
    return data


def parse_yaml(text: str | bytes, where: str) -> Any:
    """Reads a YAML text.

    Args:
        text: one document; bytes must be UTF-8.
        where: what messages call it.

    Raises:
        ConfigError: see `read_yaml`.
    """
    text = _decoded(text, where)
    strange = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if strange is not None:
        line = text.count("\n", 0, strange.start()) + 1
        raise ConfigError(f"{where} is not valid YAML in line {line}: it holds the character {strange[0]!a}")
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    except _RefusedError as error:
        raise ConfigError(f"{where} {error.problem}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = "" if mark is None or "\n" not in text.rstrip() else f" in line {mark.line + 1}"
        why = " ".join(str(error.problem or error.context).removeprefix("but ").split())
        raise ConfigError(f"{where} is not valid YAML{place}: {why}") from None
    finally:
        loader.dispose()


def dump_yaml(plain: Any) -> str:
    """The inverse of `parse_yaml`; readers of YAML 1.1 get the same values."""
    return yaml.dump(plain, Dumper=_Dumper, sort_keys=False)


def dump_line(plain: Any) -> str:
    """The same in one line: `{column: ts, unit: ms}`."""
    text: str = yaml.dump(plain, Dumper=_Dumper, sort_keys=False, default_flow_style=True, width=math.inf)
    return text.strip()


def parse_json(text: str | bytes, where: str) -> Any:
    """Reads a JSON text.

    Args:
        text: bytes must be UTF-8.
        where: what messages call it.

    Raises:
        ConfigError: it is no UTF-8 or no JSON, has a key twice, is nested too deeply, or holds an endless number or
            half of a surrogate pair.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ConfigError(f"{where} has the key {twice!r} twice; keep one of them")
        return found

    text = _decoded(text, where)
    try:
        found = json.loads(text, object_pairs_hook=unique)
        if _SURROGATE.search(text):
            json.dumps(found, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError as error:
        raise ConfigError(f"{where} is not valid JSON: {error}") from None
    except RecursionError:
        raise ConfigError(f"{where} is not valid JSON: it is nested too deeply") from None
    except UnicodeEncodeError:  # no text that a file, a digest or a terminal could hold
        raise ConfigError(f"{where} is not valid JSON: it holds half of a surrogate pair") from None
    except ConfigError:
        raise
    except ValueError:  # Python's limit for the digits of an integer
        raise ConfigError(f"{where} is not valid JSON: it holds a number of thousands of digits") from None
    _check_levels(found, where)
    return found


def _check_levels(value: Any, where: str) -> None:
    """Refuses what Python's own reader takes, and whatever walks or shows it would not."""
    level, depth = [value], 0
    while level := [one for one in level if isinstance(one, (dict, list))]:
        depth += 1
        if depth > DEEPEST:
            raise ConfigError(f"{where} is nested more than {DEEPEST} levels deep")
        level = [child for one in level for child in (one.values() if isinstance(one, dict) else one)]


def _decoded(text: str | bytes, where: str) -> str:
    if isinstance(text, str):
        return text.removeprefix("\ufeff")
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if text.startswith(mark):
            raise ConfigError(f"{where} is {encoding}; save it as UTF-8")
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        said = f"{where} is not UTF-8: line {line} holds the byte 0x{text[error.start]:02x}; save it as UTF-8"
        raise ConfigError(said) from None


class _RefusedError(yaml.MarkedYAMLError):
    """Valid YAML that nobody should write; the problem is the end of a sentence that begins with the file."""


class _Loader(yaml.SafeLoader):
    """PyYAML with the core schema of YAML 1.2 and no other types."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._nodes = 0
        self._heights = [0]
        self._measured: dict[int, tuple[int, int]] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        """One value: counted, with its levels; an alias counts as what it stands for."""
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        if self.check_event(yaml.AliasEvent):
            node = super().compose_node(parent, index)
            if id(node) not in self._measured:
                raise _RefusedError(problem=f"has an alias in line {mark.line + 1} that stands for a thing around it")
            nodes, height = self._measured[id(node)]
            self._count(nodes, height, mark)
            return node
        self._count(1, 1, mark)
        before = self._nodes
        self._heights.append(0)
        node = super().compose_node(parent, index)
        height = self._heights.pop() + 1
        self._heights[-1] = max(self._heights[-1], height)
        self._measured[id(node)] = (self._nodes - before + 1, height)
        return node

    def _count(self, nodes: int, height: int, mark: Any) -> None:
        self._nodes += nodes
        self._heights[-1] = max(self._heights[-1], height)
        if len(self._heights) + height - 1 > DEEPEST:
            raise _RefusedError(problem=f"is nested more than {DEEPEST} levels deep in line {mark.line + 1}")
        if self._nodes > MOST_NODES:
            raise _RefusedError(problem=f"stands for more than {MOST_NODES:,} values by line {mark.line + 1}")

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """A mapping, each of whose keys stands once."""
        lines: dict[Any, int] = {}
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            key, line = self.construct_object(key_node, deep=True), key_node.start_mark.line + 1
            if not isinstance(key, Hashable):
                raise _RefusedError(problem=f"has a key in line {line} that is a list or a mapping; keys are text")
            if key in lines:
                raise _RefusedError(
                    problem=f"has the key {key!r} in line {lines[key]} and again in line {line}; keep one of them"
                )
            lines[key] = line
        return yaml.constructor.BaseConstructor.construct_mapping(self, node, deep=deep)

    def construct_core(self, node: Any) -> Any:
        """A scalar of the core schema that is no text."""
        kind, text = node.tag.removeprefix(_TAG), self.construct_scalar(node)
        line = node.start_mark.line + 1
        if not _CORE[kind][0].match(text):
            raise _RefusedError(problem=f"has {_short(text)} in line {line}, which is no {kind}")
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind == "int":
            base = {"0o": 8, "0x": 16}.get(text[:2], 10)
            number = int(text, base) if len(text) <= 70 else None
            if number is None or not -(1 << 63) <= number < 1 << 64:
                raise _RefusedError(problem=f"has {_short(text)} in line {line}, which is no number of 64 bits")
            return number
        if text[-3:].lower() in ("inf", "nan"):
            return float(text.replace(".", ""))
        value = float(text)
        if math.isinf(value):
            raise _RefusedError(problem=f"has {_short(text)} in line {line}, which no floating-point number can hold")
        return value


class _Dumper(yaml.SafeDumper):
    """PyYAML that quotes what either version of YAML would take for something else than text."""


def _short(text: str) -> str:
    return repr(text) if len(text) <= 40 else f"{text[:20]!r}... ({len(text):,} characters)"


_Loader.yaml_implicit_resolvers = {}  # nothing of YAML 1.1
_Loader.yaml_constructors = {}
for _kind, (_pattern, _first) in _CORE.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_TAG + _kind, _pattern, _first)
    _Loader.yaml_constructors[_TAG + _kind] = _Loader.construct_core
for _kind in ("str", "seq", "map"):
    _Loader.yaml_constructors[_TAG + _kind] = getattr(_Loader, f"construct_yaml_{_kind}")
_Loader.yaml_constructors[None] = _Loader.construct_undefined
