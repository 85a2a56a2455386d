"""Whose mistake an error is: the user's is shown as one sentence, a fault of this project with its traceback."""

from typing import ClassVar


class UserError(Exception):
    """What the person who started a command can fix: a mistake of theirs, or of the files, machine or server in use.

    Programs show the message alone, without a traceback, and end with `exit_code`. So the message is one sentence that
    says what is wrong and what to do. A fault of this project must not derive from it.

    Attributes:
        exit_code: of the command `twin-tf`: 1 for what failed, 2 for bad usage or input. The Beam programs end with 1.
    """

    exit_code: ClassVar[int] = 1


PYTHONS_OWN: tuple[type[Exception], ...] = (
    ValueError,  # a wrong argument of a public function, for example of the client
    FloatingPointError,  # a training whose loss or weights are no longer finite
)
"""Shown like a `UserError`, but not what derives from them.

`UnicodeError`, `json.JSONDecodeError` and `pyarrow.ArrowInvalid` are values too: whoever reads a user's file knows its
name, and raises a `UserError` in their place.
"""

PYTHONS_OWN_FAMILIES: tuple[type[Exception], ...] = (
    OSError,  # a file, a connection, a child process, a time limit
)
"""Shown like a `UserError`, with all that derives from them."""


def is_users(error: BaseException) -> bool:
    """Whether an error's message alone is shown, in place of a traceback."""
    return isinstance(error, (UserError, *PYTHONS_OWN_FAMILIES)) or type(error) in PYTHONS_OWN
