"""Which operations a model may hold: those that the stock server image runs and that touch nothing but the request.

The list comes from TensorFlow's own C++ library, which registers what the server of the same release registers: an
operation that it does not know is a custom one, and one without a CPU kernel there needs Python or another device.
Of the rest, operations with a state (files, queues, iterators, random numbers, printing, remote calls) are refused,
but for the few that a graph with variables and conditions is made of.

Example:
    >>> refused_operations(saved_model.meta_graphs[0].graph_def)
    ['PyFunc in __inference_serve_12: the stock image has no CPU kernel for it']
"""

import ctypes
import functools
import re
from collections.abc import Iterator

from export.protos import graph_pb2, ops_pb2
from export.session.tensorflow_library import library

STATEFUL = frozenset(
    (
        *("VarHandleOp", "ReadVariableOp", "ResourceGather", "ResourceGatherNd", "VariableShape", "VarIsInitializedOp"),
        *("If", "While", "Case", "StatefulPartitionedCall"),  # they count as stateful because their branches may be
        *("Assert", "CheckNumerics", "CheckNumericsV2", "GuaranteeConst"),
    )
)
"""Operations with a state that a signature may use: they read variables or guard the request."""

LOADER = frozenset(
    ("RestoreV2", "AssignVariableOp", "SaveV2", "MergeV2Checkpoints", "ShardedFilename", "DisableCopyOnRead")
)
"""What reads and writes files and variables: for the loader's own functions alone."""

_LOADER_FUNCTION = re.compile(r"__inference__traced_(save|restore)_\d+")
# Without a state by their registration, and yet they read files, end the process, feed input pipelines, call Python
# (whose kernels a process has once it imports TensorFlow) or need the XLA compiler, which the stock server has switched
# off. A leading underscore marks what the runtime alone adds to a graph.
_REFUSED = re.compile(
    r"Abort|ReadFile|MatchingFiles|ImmutableConst|InitializeTableFromTextFile|Reader.*|.*Dataset.*|.*Summary.*|.*PyFunc.*|Xla.*|_.*"
)
_DEVICES = ("CPU", "DEFAULT")


@functools.cache
def stock_operations() -> dict[str, bool]:
    """Operation -> whether it has a state, of all that the library knows and runs on a CPU.

    Raises:
        NotFoundError: TensorFlow's C++ library is missing.
    """
    lib = library()
    known = ops_pb2.OpList.FromString(_taken(lib.TF_GetAllOpList()))
    status = lib.TF_NewStatus()
    kernels = ops_pb2.KernelList.FromString(_taken(lib.TF_GetAllRegisteredKernels(status)))
    lib.TF_DeleteStatus(status)
    runs = {kernel.op for kernel in kernels.kernel if kernel.device_type in _DEVICES}
    return {operation.name: operation.is_stateful for operation in known.op if operation.name in runs}


def refused_operations(graph: graph_pb2.GraphDef) -> list[str]:
    """What a graph and its functions hold and must not: one clause for each operation, with the first place of it."""
    functions = {function.signature.name for function in graph.library.function}
    found: dict[str, str] = {}
    for place, operation in _operations(graph):
        if operation not in functions and operation not in found:  # a call by the function's own name is no operation
            reason = _fault(operation, loads=_LOADER_FUNCTION.fullmatch(place) is not None)
            if reason:
                found[operation] = f"{operation} in {place}: {reason}"
    return [found[operation] for operation in sorted(found)]


def operation_names(graph: graph_pb2.GraphDef) -> set[str]:
    """Every operation of a graph and its functions."""
    return {operation for _, operation in _operations(graph)}


def _operations(graph: graph_pb2.GraphDef) -> Iterator[tuple[str, str]]:
    yield from (("the graph", node.op) for node in graph.node)
    for function in graph.library.function:
        yield from ((function.signature.name, node.op) for node in function.node_def)


def _fault(operation: str, loads: bool) -> str:
    stock = stock_operations()
    if operation not in stock:
        return "the stock image has no CPU kernel for it"
    if operation in LOADER:
        return "" if loads else "only the loader may read and write files and variables"
    if _REFUSED.fullmatch(operation) or (stock[operation] and operation not in STATEFUL):
        return "it reaches beyond the request (files, state, chance, another compiler)"
    return ""


def _taken(buffer: "ctypes._Pointer[ctypes.Structure]") -> bytes:
    """The bytes of a TF_Buffer, which is freed."""
    content = ctypes.string_at(buffer.contents.data, buffer.contents.length)
    library().TF_DeleteBuffer(buffer)
    return content
