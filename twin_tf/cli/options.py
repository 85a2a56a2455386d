"""Options that commands share, and how they show what they found."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

SETTING = "Change a setting, for example --set training.epochs=2; may be repeated."


def show(result: dict[str, Any], as_json: bool, sentence: str) -> None:
    """Prints a command's result: for machines as JSON, else the sentence."""
    click.echo(json.dumps(result, indent=1) if as_json else sentence)


def named(figures: dict[str, Any], *names: str) -> str:
    """The figures by name; `none` where one means nothing, for example the AUC of a single class."""
    values = ((name, figures[name]) for name in names)
    return ", ".join(f"{name} none" if value is None else f"{name} {value:.4f}" for name, value in values)


def json_option(command: Command) -> Command:
    """Adds `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(command)


def verify_option(command: Command) -> Command:
    """Adds `--no-verify`; the command gets it as `verify`."""
    read = "Read data and runs though a file has another SHA-256 than was noted; records are always checked."
    return click.option("--no-verify", "verify", is_flag=True, flag_value=False, default=True, help=read)(command)


def config_options(command: Command) -> Command:
    """Adds `--config` and `--set`."""
    command = click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help=SETTING)(command)
    return click.option(
        "--config",
        "config_path",
        help="Configuration YAML, or the name of a shipped one, for example complete_journey.",
    )(command)
