"""TensorFlow's C API through ctypes: the library is found beside the installed package, which is never imported."""

import contextlib
import ctypes
import functools
import importlib.util
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from export.contract.errors import NotFoundError, error_for
from export.contract.tensors import BFLOAT16, STRING, Array, numpy_dtype
from twin_tf.core.quiet_logs import quiet_library, quiet_processes

STRING_SIZE = 24
"""Bytes of a TF_TString."""
_NAMES = ("libtensorflow_cc.so.2", "libtensorflow_cc.2.dylib")


class Output(ctypes.Structure):
    """`TF_Output`: one output of one operation of a graph."""

    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


class Buffer(ctypes.Structure):
    """`TF_Buffer`: bytes that belong to TensorFlow."""

    _fields_ = [("data", ctypes.c_void_p), ("length", ctypes.c_size_t), ("release", ctypes.c_void_p)]


_HANDLE = ctypes.c_void_p
_OUTPUTS = ctypes.POINTER(Output)
_HANDLES = ctypes.POINTER(_HANDLE)
_BUFFER = ctypes.POINTER(Buffer)
# Function -> result, arguments. A `char` array inside a tensor travels as an address (c_void_p), never as c_char_p,
# which ctypes would cut at the first zero byte.
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "TF_NewStatus": (_HANDLE, []),
    "TF_DeleteStatus": (None, [_HANDLE]),
    "TF_GetCode": (ctypes.c_int, [_HANDLE]),
    "TF_Message": (ctypes.c_char_p, [_HANDLE]),
    "TF_NewBuffer": (_BUFFER, []),
    "TF_DeleteBuffer": (None, [_BUFFER]),
    "TF_GetAllOpList": (_BUFFER, []),
    "TF_GetAllRegisteredKernels": (_BUFFER, [_HANDLE]),
    "TF_NewGraph": (_HANDLE, []),
    "TF_DeleteGraph": (None, [_HANDLE]),
    "TF_NewSessionOptions": (_HANDLE, []),
    "TF_DeleteSessionOptions": (None, [_HANDLE]),
    "TF_SetConfig": (None, [_HANDLE, ctypes.c_char_p, ctypes.c_size_t, _HANDLE]),
    "TF_LoadSessionFromSavedModel": (
        _HANDLE,
        [_HANDLE, _BUFFER, ctypes.c_char_p, ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, _HANDLE, _BUFFER, _HANDLE],
    ),
    "TF_CloseSession": (None, [_HANDLE, _HANDLE]),
    "TF_DeleteSession": (None, [_HANDLE, _HANDLE]),
    "TF_GraphOperationByName": (_HANDLE, [_HANDLE, ctypes.c_char_p]),
    "TF_SessionRun": (
        None,
        [_HANDLE, _BUFFER, _OUTPUTS, _HANDLES, ctypes.c_int, _OUTPUTS, _HANDLES, ctypes.c_int]
        + [_HANDLES, ctypes.c_int, _BUFFER, _HANDLE],
    ),
    "TF_AllocateTensor": (_HANDLE, [ctypes.c_int, ctypes.POINTER(ctypes.c_int64), ctypes.c_int, ctypes.c_size_t]),
    "TF_DeleteTensor": (None, [_HANDLE]),
    "TF_TensorType": (ctypes.c_int, [_HANDLE]),
    "TF_NumDims": (ctypes.c_int, [_HANDLE]),
    "TF_Dim": (ctypes.c_int64, [_HANDLE, ctypes.c_int]),
    "TF_TensorByteSize": (ctypes.c_size_t, [_HANDLE]),
    "TF_TensorData": (_HANDLE, [_HANDLE]),
    "TF_NewCheckpointReader": (_HANDLE, [ctypes.c_char_p, _HANDLE]),
    "TF_DeleteCheckpointReader": (None, [_HANDLE]),
    "TF_CheckpointReaderSize": (ctypes.c_int, [_HANDLE]),
    "TF_CheckpointReaderGetVariable": (ctypes.c_char_p, [_HANDLE, ctypes.c_int]),
    "TF_CheckpointReaderGetVariableDataType": (ctypes.c_int, [_HANDLE, ctypes.c_char_p]),
    "TF_CheckpointReaderGetTensor": (_HANDLE, [_HANDLE, ctypes.c_char_p, _HANDLE]),
    "TF_StringInit": (None, [_HANDLE]),
    "TF_StringCopy": (None, [_HANDLE, ctypes.c_char_p, ctypes.c_size_t]),
    "TF_StringGetDataPointer": (_HANDLE, [_HANDLE]),
    "TF_StringGetSize": (ctypes.c_size_t, [_HANDLE]),
    "TF_StringDealloc": (None, [_HANDLE]),
}


@functools.cache
def library() -> ctypes.CDLL:
    """Loads the library on first use (about a second) and declares what is called.

    Raises:
        NotFoundError: TensorFlow is not installed, or without its C++ library.
    """
    spec = importlib.util.find_spec("tensorflow")
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    path = next((Path(f) / name for f in folders for name in _NAMES if (Path(f) / name).exists()), None)
    if path is None:
        where = f"{folders[0]} holds no {_NAMES[0]}" if folders else "no package tensorflow is installed"
        raise NotFoundError(f"TensorFlow's C++ library is missing: {where}; install tensorflow 2.20 or 2.21")
    quiet_processes()  # errors come back as statuses
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as in training and in serving_configs/
    loaded = ctypes.CDLL(str(path))
    quiet_library(loaded)
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded


@contextlib.contextmanager
def checked_status() -> Iterator[int]:
    """A fresh TF_Status; raises its error at the end.

    Raises:
        ServingError: what TensorFlow reports.
    """
    lib = library()
    status = lib.TF_NewStatus()
    try:
        yield status
        code = lib.TF_GetCode(status)
        if code:
            raise error_for(code, lib.TF_Message(status).decode("utf-8", "replace"))
    finally:
        lib.TF_DeleteStatus(status)


def read_tensor(tensor: int) -> Array:
    """A TF_Tensor as an array: a read-only view of its memory, which is freed with the array; strings are copied.

    Numbers that NumPy does not have (bfloat16) come as their bits.
    """
    lib = library()
    number = lib.TF_TensorType(tensor)
    shape = tuple(lib.TF_Dim(tensor, axis) for axis in range(lib.TF_NumDims(tensor)))
    size = lib.TF_TensorByteSize(tensor)
    address = lib.TF_TensorData(tensor)
    if number == STRING:
        strings = np.empty(size // STRING_SIZE, object)
        for index in range(len(strings)):
            place = address + index * STRING_SIZE
            strings[index] = ctypes.string_at(lib.TF_StringGetDataPointer(place), lib.TF_StringGetSize(place))
        lib.TF_DeleteTensor(tensor)
        return strings.reshape(shape)
    dtype = np.dtype(np.uint16) if number == BFLOAT16 else numpy_dtype(number)
    if not size:
        lib.TF_DeleteTensor(tensor)
        return np.empty(shape, dtype)
    memory = (ctypes.c_char * size).from_address(address)
    weakref.finalize(memory, lib.TF_DeleteTensor, tensor).atexit = False
    array = np.frombuffer(memory, dtype).reshape(shape)
    array.flags.writeable = False  # it may be a variable's own memory
    return array
