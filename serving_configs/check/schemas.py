"""Checks YAML and JSON against the strict schemas of `json_schemas/`: every key is known, so a typo is found.

The schemas hold what these files use, not all that Compose, Kubernetes, Prometheus and Grafana know. A new key is added
there after a look at its documentation.
"""

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from twin_tf.core.dataclass_yaml import nearest

_FOLDER = Path(__file__).parent / "json_schemas"


class _Loader(yaml.SafeLoader):
    """YAML where a key that stands twice is an error, as it is for the programs that read these files."""


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    loader.flatten_mapping(node)
    result: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in result:
            raise yaml.YAMLError(f"the key {key!r} stands twice, again in line {key_node.start_mark.line + 1}")
        result[key] = loader.construct_object(value_node, deep=True)
    return result


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def load_all(text: str) -> list[Any]:
    """The documents of a YAML (or JSON) text.

    Raises:
        ValueError: it is not YAML, or a key stands twice.
    """
    try:
        return list(yaml.load_all(text, Loader=_Loader))
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {error}") from error


@cache
def _validator(schema: str, definition: str) -> Draft202012Validator:
    content = yaml.safe_load((_FOLDER / f"{schema}.yaml").read_text(encoding="utf-8"))
    if definition not in content["$defs"]:
        raise ValueError(f"unknown kind {definition!r}{nearest(definition, content['$defs'])}")
    content["$ref"] = f"#/$defs/{definition}"
    Draft202012Validator.check_schema(content)
    return Draft202012Validator(content)


def problems(data: Any, schema: str, definition: str = "file") -> list[str]:
    """One sentence for each place where `data` breaks `definition` of `json_schemas/<schema>.yaml`."""
    try:
        validator = _validator(schema, definition)
    except ValueError as error:
        return [str(error)]
    return [sentence for error in validator.iter_errors(data) for sentence in _sentences(error)]


def _sentences(error: ValidationError) -> list[str]:
    place = ".".join(str(part) for part in error.absolute_path) or "the file"
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        known = error.schema.get("properties", {})
        unknown = [str(key) for key in error.instance if key not in known]
        return [f"{place} has an unknown key {key!r}{nearest(key, known)}" for key in unknown]
    return [f"{place}: {error.message[:300]}"]
