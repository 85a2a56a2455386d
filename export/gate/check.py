"""What one check of the gate found."""

import dataclasses

BEFORE = "made before there were digests"
"""Said of earlier exports, which lack what a check needs; they stay readable."""


@dataclasses.dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: what was checked.
        ok: whether it holds.
        detail: what was found, one sentence.
        figures: what was measured.
        unchecked: it could not be made; such a check fails unless it is allowed by name.
    """

    name: str
    ok: bool
    detail: str
    figures: dict[str, float] = dataclasses.field(default_factory=dict)
    unchecked: bool = False


def first_faults(name: str, faults: list[str], sound: str, figures: dict[str, float] | None = None) -> Check:
    """A check that holds if there is no fault."""
    return Check(name, not faults, "; ".join(faults) or sound, figures or {})
