"""A SavedModel in TensorFlow's C++ runtime, without TensorFlow's Python: the way TensorFlow Serving loads and runs it.

A directory that `tf.saved_model.load` reads in Python may still fail in the server, so the gate
(`export.gate.validate`) and the local server use this.

Example:
    >>> with CppSession("models/1700000000") as session:
    ...     outputs = session.run("self_check", {"probe": np.arange(8, dtype=np.int32)})
"""

import contextlib
import ctypes
import dataclasses
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from export.contract.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from export.contract.tensors import STRING, Array, array_dtype_number, as_bytes, dtype_name
from export.protos import graph_pb2
from export.session.tensorflow_library import STRING_SIZE, Output, checked_status, library, read_tensor

_INTERNAL_SIGNATURES = "__saved_model"


@dataclasses.dataclass(frozen=True)
class TensorSpecification:
    """One input or output of a signature.

    Attributes:
        tensor: the graph's name for it, `operation:index`.
        dtype: NumPy dtype name, or `string`.
        shape: sizes, -1 where free; None where even the rank is unknown.
    """

    tensor: str
    dtype: str
    shape: tuple[int, ...] | None


@dataclasses.dataclass(frozen=True)
class Signature:
    """What one signature takes and returns, by name."""

    inputs: Mapping[str, TensorSpecification]
    outputs: Mapping[str, TensorSpecification]


class CppSession:
    """A loaded SavedModel.

    `run` may be called from many threads at once. Inputs are copied once into TensorFlow's aligned memory; outputs are
    read-only views of TensorFlow's memory, which stays until the arrays are gone, also after `close`.

    Args:
        model_dir: the directory with `saved_model.pb`.
        tags: which graph of it.
        intra_op_threads: threads of one operation; 0 lets TensorFlow take every core.
        inter_op_threads: operations side by side; 0 lets TensorFlow choose.

    Attributes:
        signatures: name -> `Signature`.
        signature_defs: the same as the model holds it, `SignatureDef` messages.

    Raises:
        NotFoundError: no SavedModel there, no such tags, or no TensorFlow library.
        ServingError: whatever the loader reports, for example `DataLossError` for corrupt variables.
    """

    def __init__(
        self,
        model_dir: str | Path,
        tags: Sequence[str] = ("serve",),
        *,
        intra_op_threads: int = 0,
        inter_op_threads: int = 0,
    ) -> None:
        self.model_dir = Path(model_dir)
        if not (self.model_dir / "saved_model.pb").is_file():
            raise NotFoundError(f"{model_dir} is no model directory: it holds no saved_model.pb")
        self._library = library()
        self._idle = threading.Condition()
        self._running = 0
        self._session: int | None = None
        self._graph: int = self._library.TF_NewGraph()
        config = graph_pb2.SessionConfig(
            intra_op_parallelism_threads=intra_op_threads, inter_op_parallelism_threads=inter_op_threads
        )
        try:
            meta_graph = self._load(config.SerializeToString(), [tag.encode() for tag in tags])
        except BaseException:
            self._library.TF_DeleteGraph(self._graph)
            raise
        served = graph_pb2.ServedSignatures.FromString(meta_graph)
        served.DiscardUnknownFields()  # the graph itself
        self.signature_defs: dict[str, graph_pb2.SignatureDef] = {
            name: definition
            for name, definition in served.signature_def.items()
            if not name.startswith(_INTERNAL_SIGNATURES)
        }
        self.signatures: dict[str, Signature] = {
            name: Signature(_specifications(definition.inputs), _specifications(definition.outputs))
            for name, definition in self.signature_defs.items()
        }
        self._places = {
            specification.tensor: self._place(specification.tensor)
            for signature in self.signatures.values()
            for specification in (*signature.inputs.values(), *signature.outputs.values())
        }

    def run(self, signature: str, inputs: Mapping[str, Any], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """Runs one signature.

        Args:
            signature: its name.
            inputs: name -> array, all of them; lists take the declared dtype, arrays keep theirs.
            outputs: the names to compute; all of the signature's if None.

        Returns:
            name -> array (object arrays of bytes for strings).

        Raises:
            FailedPreconditionError: no such signature, or the session is closed.
            InvalidArgumentError: a missing, unknown or ill-typed input or output.
            ServingError: what the graph reports.
        """
        declared = self.signatures.get(signature)
        if declared is None:
            raise FailedPreconditionError(f'Serving signature key "{signature}" not found.')
        wanted = list(declared.outputs) if outputs is None else list(outputs)
        _check_names("input", inputs, declared.inputs, complete=True)
        _check_names("output", wanted, declared.outputs, complete=False)
        feeds = (Output * len(inputs))(*(self._places[declared.inputs[name].tensor] for name in inputs))
        fetches = (Output * len(wanted))(*(self._places[declared.outputs[name].tensor] for name in wanted))
        arrays = [_as_array(value, declared.inputs[name]) for name, value in inputs.items()]
        with self._in_use() as session, contextlib.ExitStack() as cleanup:
            fed = (ctypes.c_void_p * len(arrays))()
            for index, array in enumerate(arrays):
                fed[index] = self._new_tensor(array, cleanup)
            fetched = (ctypes.c_void_p * len(wanted))()
            with checked_status() as status:
                self._library.TF_SessionRun(
                    session, None, feeds, fed, len(fed), fetches, fetched, len(fetched), None, 0, None, status
                )
            # Strings are read before the inputs are released: an output may share an input's buffer.
            return {name: read_tensor(tensor) for name, tensor in zip(wanted, fetched, strict=True)}

    def close(self) -> None:
        """Waits for the calls that are running, then frees the model; a second call does nothing."""
        with self._idle:
            session, self._session = self._session, None
            self._idle.wait_for(lambda: not self._running)
        if session is not None:
            with checked_status() as status:
                self._library.TF_CloseSession(session, status)
            with checked_status() as status:
                self._library.TF_DeleteSession(session, status)
            self._library.TF_DeleteGraph(self._graph)

    def __enter__(self) -> "CppSession":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _load(self, config: bytes, tags: list[bytes]) -> bytes:
        lib = self._library
        options = lib.TF_NewSessionOptions()
        buffer = lib.TF_NewBuffer()
        try:
            with checked_status() as status:
                lib.TF_SetConfig(options, config, len(config), status)
            with checked_status() as status:
                self._session = lib.TF_LoadSessionFromSavedModel(
                    options,
                    None,
                    str(self.model_dir).encode(),
                    (ctypes.c_char_p * len(tags))(*tags),
                    len(tags),
                    self._graph,
                    buffer,
                    status,
                )
            return ctypes.string_at(buffer.contents.data, buffer.contents.length)
        finally:
            lib.TF_DeleteBuffer(buffer)
            lib.TF_DeleteSessionOptions(options)

    @contextlib.contextmanager
    def _in_use(self) -> Iterator[int]:
        with self._idle:
            session = self._session
            if session is None:
                raise FailedPreconditionError(f"the session of {self.model_dir} is closed")
            self._running += 1
        try:
            yield session
        finally:
            with self._idle:
                self._running -= 1
                self._idle.notify_all()

    def _place(self, tensor: str) -> Output:
        name, _, index = tensor.partition(":")
        operation = self._library.TF_GraphOperationByName(self._graph, name.encode())
        if not operation:
            raise NotFoundError(f"{self.model_dir} names the tensor {tensor}, which its graph does not hold")
        return Output(operation, int(index or 0))

    def _new_tensor(self, array: Array, cleanup: contextlib.ExitStack) -> int:
        lib = self._library
        number = array_dtype_number(array)
        size = array.size * STRING_SIZE if number == STRING else array.nbytes
        dims = (ctypes.c_int64 * array.ndim)(*array.shape)
        tensor: int = lib.TF_AllocateTensor(number, dims, array.ndim, size)
        cleanup.callback(lib.TF_DeleteTensor, tensor)
        address = lib.TF_TensorData(tensor)
        if number == STRING:
            for index, value in enumerate(array.ravel().tolist()):
                text = as_bytes(value)
                place = address + index * STRING_SIZE
                lib.TF_StringInit(place)
                cleanup.callback(lib.TF_StringDealloc, place)
                lib.TF_StringCopy(place, text, len(text))
        elif size:
            ctypes.memmove(address, array.ctypes.data, size)
        return tensor


def _specifications(infos: Mapping[str, graph_pb2.TensorInfo]) -> dict[str, TensorSpecification]:
    return {
        name: TensorSpecification(
            info.name,
            dtype_name(info.dtype),
            None if info.tensor_shape.unknown_rank else tuple(dim.size for dim in info.tensor_shape.dim),
        )
        for name, info in sorted(infos.items())
    }


def _as_array(value: Any, declared: TensorSpecification) -> Array:
    if not isinstance(value, np.ndarray):
        value = np.asarray(value, object if declared.dtype == "string" else declared.dtype)
    array: Array = np.asarray(value, order="C")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _check_names(kind: str, given: Any, declared: Mapping[str, Any], complete: bool) -> None:
    extra = sorted(set(given) - set(declared))
    missing = sorted(set(declared) - set(given)) if complete else []
    if extra or missing:
        raise InvalidArgumentError(
            f"{kind}s do not match the signature; unknown: {', '.join(extra) or 'none'};"
            f" missing: {', '.join(missing) or 'none'}; it has: {', '.join(declared)}"
        )
