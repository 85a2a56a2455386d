"""Checks the command line of tensorflow_model_server against its list of flags (flags.yaml)."""

import re
from functools import cache
from pathlib import Path

import yaml

from twin_tf.core.dataclass_yaml import nearest

_VALUES = {
    "int": r"-?\d+",
    "float": r"-?\d+(\.\d+)?",
    "bool": r"true|false",
    "string": r".+",
}


@cache
def _known() -> dict[str, str]:
    return yaml.safe_load((Path(__file__).parent / "flags.yaml").read_text(encoding="utf-8"))


def parse(arguments: list[str]) -> tuple[dict[str, str], list[str]]:
    """Flags by name, and what is wrong with them.

    The server takes `--name=value` alone: in `--name value` the value is an unknown argument, which it ignores.
    """
    flags: dict[str, str] = {}
    wrong = []
    for argument in arguments:
        match = re.fullmatch(r"--(\w+)=(.*)", argument)
        if match is None:
            wrong.append(f"{argument!r} must read --flag=value")
            continue
        name, value = match.groups()
        if name not in _known():
            wrong.append(f"tensorflow_model_server has no flag --{name}{nearest(name, _known())}")
        elif not re.fullmatch(_VALUES[_known()[name]], value):
            wrong.append(f"--{name} must be {_known()[name]}, not {value!r}")
        if name in flags:
            wrong.append(f"--{name} is given twice")
        flags[name] = value
    if flags.get("port") == flags.get("rest_api_port"):
        wrong.append("--rest_api_port must differ from --port: the server would start without REST, probes and metrics")
    if (flags.get("enable_batching") == "true") != ("batching_parameters_file" in flags):
        wrong.append(
            "--enable_batching=true and --batching_parameters_file go together: one alone is refused or unused"
        )
    return flags, wrong
