"""What the gate tolerates, and the options that say so."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import click

from export.gate import auc_check
from export.gate.provenance import SERVER_VERSION, release

TOLERANCE = 1e-5
MAX_BYTES = 64 << 30
"""Default budget of a directory: about what a server with 64 GB holds of one version while it swaps two."""
CAN_BE_UNCHECKED = ("server", "contract", "auc")
"""Checks that need something which may be missing, and so can be allowed to be left out."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """What the gate tolerates.

    Attributes:
        tolerance: the largest difference between a served probability and the trainer's.
        max_bytes: the largest size of the directory.
        auc_epsilon: how far the AUC may fall below that of the version published last; a loss of up to 0.01 that
            chance explains passes too, see `auc_check.Comparison.worse`.
        server_version: the release of TensorFlow that serves it.
        allow_new_contract: another contract than the published version's passes; the AUC is not compared then.
        allow_unchecked: checks by name that pass although they cannot be made.
        allow_one_class: a model that was trained on targets of one label passes.
        evaluation: a file of `twin-tf evaluate --against`, which must not show the model to be worse, see
            `evaluation_check`; None asks for none.
    """

    tolerance: float = TOLERANCE
    max_bytes: int = MAX_BYTES
    auc_epsilon: float = auc_check.EPSILON
    server_version: str = SERVER_VERSION
    allow_new_contract: bool = False
    allow_unchecked: tuple[str, ...] = ()
    allow_one_class: bool = False
    evaluation: str | None = None

    def __post_init__(self) -> None:
        release(self.server_version)  # raises what is none
        unknown = sorted(set(self.allow_unchecked) - set(CAN_BE_UNCHECKED))
        if unknown:
            raise ValueError(f"allow_unchecked names {unknown[0]!r}; it takes {', '.join(CAN_BE_UNCHECKED)}")

    def as_arguments(self) -> list[str]:
        """The options of `python -m export.gate.validate` that mean the same."""
        arguments = []
        for field in dataclasses.fields(self):
            option, value = f"--{field.name.replace('_', '-')}", getattr(self, field.name)
            if value is None or isinstance(value, bool):
                arguments += [option] if value else []
            else:
                values = value if isinstance(value, tuple) else (value,)
                arguments += [part for one in values for part in (option, str(one))]
        return arguments


def limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the fields of `Limits` as options; the command gets them as `limits`."""

    @functools.wraps(command)
    def with_limits(*args: Any, **options: Any) -> Any:
        given = {field.name: options.pop(field.name) for field in dataclasses.fields(Limits)}
        return command(*args, limits=Limits(**given), **options)

    wrapped: Callable[..., Any] = with_limits
    for name, default, text in (
        ("--server-version", SERVER_VERSION, "Release of TensorFlow that serves it."),
        ("--auc-epsilon", auc_check.EPSILON, "How far the AUC may fall below the published version's."),
        ("--max-bytes", MAX_BYTES, "Size budget of the directory."),
        ("--tolerance", TOLERANCE, "Largest difference from the trainer's scores."),
    ):
        wrapped = click.option(name, default=default, show_default=True, help=text)(wrapped)
    wrapped = click.option("--evaluation", help="Refuse what this file of `evaluate --against` shows to be worse.")(
        wrapped
    )
    new = click.option("--allow-new-contract", is_flag=True, help="Let another contract than the published one pass.")
    one = click.option("--allow-one-class", is_flag=True, help="Let a model of targets of one label pass.")
    unchecked = click.option(
        "--allow-unchecked", multiple=True, type=click.Choice(CAN_BE_UNCHECKED), help="Let it pass uncompared."
    )
    return new(one(unchecked(wrapped)))
