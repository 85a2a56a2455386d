"""The canonical errors of gRPC and TensorFlow as exceptions, shared by C++ session, local server and client.

Example:
    >>> raise error_for(5, "Servable not found for request: Latest(twin)")
    Traceback (most recent call last):
    export.contract.errors.NotFoundError: Servable not found for request: Latest(twin)
"""

from typing import ClassVar

from twin_tf.core.errors import UserError


class ServingError(UserError, RuntimeError):
    """A failed load, run or call.

    Attributes:
        code: the canonical code's number, the same in gRPC, Abseil and TensorFlow.
        status: the canonical code's name, for example `INVALID_ARGUMENT`.
        message: what went wrong, for a person.
    """

    code: ClassVar[int] = 2
    status: ClassVar[str] = "UNKNOWN"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    @property
    def sentence(self) -> str:
        """The first line of the message: TensorFlow appends the graph nodes the error went through."""
        return self.message.split("\n", 1)[0].strip()


class CancelledError(ServingError):
    """The caller cancelled the call."""

    code, status = 1, "CANCELLED"


class UnknownError(ServingError):
    """An error without a canonical code."""


class InvalidArgumentError(ServingError):
    """An input is wrong: a missing or extra name, a dtype, a shape."""

    code, status = 3, "INVALID_ARGUMENT"


class DeadlineExceededError(ServingError):
    """No answer within the deadline."""

    code, status = 4, "DEADLINE_EXCEEDED"


class NotFoundError(ServingError):
    """No such model, version or file."""

    code, status = 5, "NOT_FOUND"


class AlreadyExistsError(ServingError):
    """What was to be made exists."""

    code, status = 6, "ALREADY_EXISTS"


class PermissionDeniedError(ServingError):
    """The caller may not do this."""

    code, status = 7, "PERMISSION_DENIED"


class ResourceExhaustedError(ServingError):
    """Out of memory, or a message larger than the receiver takes."""

    code, status = 8, "RESOURCE_EXHAUSTED"


class FailedPreconditionError(ServingError):
    """The model is not in a state for this: no such signature, an uninitialised variable."""

    code, status = 9, "FAILED_PRECONDITION"


class AbortedError(ServingError):
    """The operation was aborted."""

    code, status = 10, "ABORTED"


class OutOfRangeError(ServingError):
    """An index or a file offset past the end."""

    code, status = 11, "OUT_OF_RANGE"


class UnimplementedError(ServingError):
    """The server has no such method, or the graph an operation without a kernel."""

    code, status = 12, "UNIMPLEMENTED"


class InternalError(ServingError):
    """An invariant of the runtime is broken."""

    code, status = 13, "INTERNAL"


class UnavailableError(ServingError):
    """No server answers, or it cannot take the call now; calling again may help."""

    code, status = 14, "UNAVAILABLE"


class DataLossError(ServingError):
    """A file is corrupt or cut short."""

    code, status = 15, "DATA_LOSS"


class InvalidAnswerError(DataLossError):
    """A server's answer that breaks the contract: a missing output, a wrong type or shape, no probabilities."""


class UnauthenticatedError(ServingError):
    """The caller's credentials are missing or wrong."""

    code, status = 16, "UNAUTHENTICATED"


_BY_CODE: dict[int, type[ServingError]] = {
    error.code: error
    for error in (
        CancelledError,
        UnknownError,
        InvalidArgumentError,
        DeadlineExceededError,
        NotFoundError,
        AlreadyExistsError,
        PermissionDeniedError,
        ResourceExhaustedError,
        FailedPreconditionError,
        AbortedError,
        OutOfRangeError,
        UnimplementedError,
        InternalError,
        UnavailableError,
        DataLossError,
        UnauthenticatedError,
    )
}


def error_for(code: int, message: str) -> ServingError:
    """The exception of a canonical code; codes that are none become `UnknownError`."""
    return _BY_CODE.get(code, UnknownError)(message)


def status_name(code: int) -> str:
    """The name of a canonical code: `OK` for 0, `UNKNOWN` for one that is none."""
    return _BY_CODE.get(code, UnknownError).status if code else "OK"
