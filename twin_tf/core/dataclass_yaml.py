"""Frozen dataclasses from plain mappings: every key is known, every value has the declared type.

The one reader behind `twin_tf.features.schema` and `twin_tf.config`. A mistake is a `ConfigError` that names the key's
place, the rule, the value received, and for an unknown key the nearest known one.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from twin_tf.core.errors import UserError

T = TypeVar("T")


class ConfigError(UserError, ValueError):
    """A schema or configuration that breaks a rule; the message is one sentence for the person who wrote it."""

    exit_code = 2


def nearest(name: str, known: typing.Iterable[str]) -> str:
    """Returns `"; did you mean 'x'?"` for the nearest of `known`, or the list of what is known."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(names)}"


def build(cls: type[T], data: Any, where: str) -> T:
    """Builds the dataclass `cls` from a mapping.

    Args:
        cls: a dataclass whose fields are scalars, `Literal`s, tuples, mappings or other dataclasses.
        data: what the YAML held.
        where: the place to name in messages, for example `schema.features[2]`.

    Raises:
        ConfigError: unknown or missing key, or a value of the wrong type.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where} must be a mapping, not {data!r}")
    fields = {_key(field): field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    for key in data:
        if key not in fields:
            raise ConfigError(f"{where} has an unknown key {key!r}{nearest(str(key), fields)}")
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name in data:
            values[field.name] = _convert(hints[field.name], data[name], f"{where}.{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{where} needs the key {name!r}")
    try:
        return cls(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def to_plain(value: Any, defaults: bool = False) -> Any:
    """The inverse of `build`: dataclasses to mappings that YAML and JSON can hold.

    Args:
        value: a dataclass, or what its fields hold.
        defaults: whether to write out the keys that have their default values.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        plain = {}
        for field in dataclasses.fields(value):
            item = getattr(value, field.name)
            default = field.default
            if field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
            if defaults or item != default:
                plain[_key(field)] = to_plain(item, defaults)
        return plain
    if isinstance(value, Mapping):
        return {key: to_plain(item, defaults) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item, defaults) for item in value]
    return value


def _key(field: Any) -> str:
    """What a file calls a field: `metadata={"key": ...}` where Python cannot have the name."""
    key: str = field.metadata.get("key", field.name)
    return key


def first_difference(before: Any, now: Any, name: str = "") -> str:
    """Names the first key in which two plain mappings differ, with both values; empty if they are the same."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in {**before, **now}:
            found = first_difference(before.get(key), now.get(key), f"{name}.{key}" if name else key)
            if found:
                return found
        return ""
    return "" if before == now else f"{name} {before}, not {now}"


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    arguments = typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, where)
    if origin is typing.Literal:
        if value not in arguments:
            raise ConfigError(f"{where} must be one of {', '.join(map(str, arguments))}, not {value!r}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where} must be a list, not {value!r}")
        return tuple(_convert(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin in (dict, Mapping, typing.get_origin(Mapping[str, Any])):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} must be a mapping, not {value!r}")
        return {str(key): _convert(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), value, where)
    return _scalar(hint, value, where)


def _scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is Any:
        return value
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint in (str, bool) and isinstance(value, hint):
        return value
    raise ConfigError(f"{where} must be {getattr(hint, '__name__', hint)}, not {value!r}")
