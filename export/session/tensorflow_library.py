"""TensorFlow's C API through ctypes: the library is found beside the installed package, which is never imported."""

import ctypes
import functools
import importlib.util
import os
from pathlib import Path
from typing import Any

from export.contract.errors import NotFoundError

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
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # errors come back as statuses
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as in training and in serving_configs/
    loaded = ctypes.CDLL(str(path))
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded
