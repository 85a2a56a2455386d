"""NumPy arrays to and from TensorProto messages, without TensorFlow.

Requests carry `tensor_content` (the array's bytes: 10,000 int64 in some 10 us); a stock server answers in the typed
fields (`float_val`, ...), so `decode` reads both.

Example:
    >>> message = graph_pb2.Tensor()
    >>> encode(np.array([[1, 2]], np.int64), message)
    >>> decode(message)
    array([[1, 2]])
"""

import math
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from export.protos import graph_pb2

Array = npt.NDArray[Any]

STRING = 7
BFLOAT16 = 14
_NUMBERS: dict[str, int] = {
    "float32": 1,
    "float64": 2,
    "int32": 3,
    "uint8": 4,
    "int16": 5,
    "int8": 6,
    "int64": 9,
    "bool": 10,
    "uint16": 17,
    "float16": 19,
    "uint32": 22,
    "uint64": 23,
}
_NAMES = {number: name for name, number in _NUMBERS.items()} | {STRING: "string"}
_SERVED_NAMES = {"float32": "float", "float64": "double", "float16": "half"}
_BYTES_FIELDS = {"float32": "float_val", "float64": "double_val"}
_LIST_FIELDS = {
    "int32": "int_val",
    "uint8": "int_val",
    "int16": "int_val",
    "int8": "int_val",
    "uint16": "int_val",
    "int64": "int64_val",
    "bool": "bool_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
}
_MOST_ELEMENTS = 1 << 31
_MOST_DIMENSIONS = 64  # NumPy's own limit; TensorFlow's is 254

if sys.byteorder != "little":
    raise ImportError("export.contract.tensors packs tensors as little-endian bytes and needs a little-endian machine")


def dtype_number(name: str) -> int:
    """TensorFlow's DataType number of a NumPy dtype name or `string`.

    Raises:
        ValueError: TensorFlow has no such type, or this project no use for it.
    """
    if name == "string":
        return STRING
    if name not in _NUMBERS:
        raise ValueError(f"arrays of {name} cannot be sent; use one of {', '.join(_NUMBERS)} or strings")
    return _NUMBERS[name]


def dtype_name(number: int) -> str:
    """The NumPy dtype name (`string` for strings) of a DataType number; `dtype <n>` for one that is not supported."""
    return _NAMES.get(number, f"dtype {number}")


def numpy_dtype(number: int) -> np.dtype[Any]:
    """The NumPy dtype of a DataType number (object for strings).

    Raises:
        ValueError: the type is not supported.
    """
    if number == STRING:
        return np.dtype(object)
    if number not in _NAMES:
        raise ValueError(f"tensors of dtype {number} are not supported")
    return np.dtype(_NAMES[number])


def array_dtype_number(array: Array) -> int:
    """The DataType number a NumPy array travels as."""
    return STRING if array.dtype.kind in "OSU" else dtype_number(array.dtype.name)


def as_bytes(value: Any) -> bytes:
    """One element of a string array as bytes (text as UTF-8).

    Raises:
        ValueError: the element is neither text nor bytes.
    """
    if isinstance(value, str):
        return value.encode("utf-8")
    if isinstance(value, bytes):
        return value
    raise ValueError(f"string arrays hold text or bytes, not {type(value).__name__}")


def encode(array: Array, message: graph_pb2.Tensor, typed_fields: bool = False) -> None:
    """Writes an array into an empty `message`.

    Args:
        array: any shape; numbers, bools or strings.
        message: is filled.
        typed_fields: use `float_val`, `int64_val`, ... as TensorFlow Serving does in its answers, instead of bytes.

    Raises:
        ValueError: the dtype cannot be sent.
    """
    message.dtype = array_dtype_number(array)
    dims = message.tensor_shape.dim
    for size in array.shape:
        dims.add(size=size)
    if message.dtype == STRING:
        message.string_val.extend(as_bytes(value) for value in array.ravel().tolist())
    elif not typed_fields or array.dtype.name == "float16":
        message.tensor_content = _native(array).tobytes()
    elif array.dtype.name in _BYTES_FIELDS:
        setattr(message, _BYTES_FIELDS[array.dtype.name], _native(array).tobytes())
    else:
        getattr(message, _LIST_FIELDS[array.dtype.name]).extend(array.ravel().tolist())


def missing_values(message: graph_pb2.Tensor) -> int:
    """How many values a message lacks of those that its shape claims: what a reader has to fill in.

    Nothing is read or filled for it.

    Raises:
        ValueError: no tensor can have the shape, or the type is not supported.
    """
    if message.tensor_content:
        numpy_dtype(message.dtype)
        return 0
    return max(0, _claimed_values(message) - _stored_values(message))


def decode(message: graph_pb2.Tensor, exact: bool = True) -> Array:
    """Reads a message into an array (a read-only view of its bytes where it can be).

    Args:
        message: with `tensor_content` or typed fields.
        exact: refuse typed fields whose count is not the shape's; otherwise do as TensorFlow does: repeat the last
            value, or fill with zeros where there is none. Ask `missing_values` first how many that are.

    Raises:
        ValueError: the content does not fit the shape, or the type is not supported.
    """
    count = _claimed_values(message)
    shape = tuple(dim.size for dim in message.tensor_shape.dim)
    dtype = numpy_dtype(message.dtype)
    if message.tensor_content:
        if message.dtype == STRING or len(message.tensor_content) != count * dtype.itemsize:
            name = dtype_name(message.dtype)
            raise ValueError(f"{len(message.tensor_content)} bytes do not fill shape {list(shape)} of {name}")
        return np.frombuffer(message.tensor_content, dtype).reshape(shape)
    values = _field_values(message, dtype)
    if len(values) != count:
        if exact:
            raise ValueError(f"{len(values)} values do not fill the shape {list(shape)}")
        filler = values[-1:] if len(values) else np.full(1, b"" if message.dtype == STRING else 0, dtype)
        values = np.concatenate([values[:count], np.repeat(filler, max(0, count - len(values)))])
    return values.reshape(shape)


def served_name(number: int) -> str:
    """The name TensorFlow's messages give a type: `float`, `int64`, `string`."""
    name = dtype_name(number)
    return _SERVED_NAMES.get(name, name)


def enum_name(number: int) -> str:
    """The name of a DataType number in TensorFlow's protos: `DT_FLOAT`, `DT_INT64`, `DT_STRING`."""
    return f"DT_{served_name(number).upper()}" if number in _NAMES else "DT_INVALID"


def _native(array: Array) -> Array:
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _claimed_values(message: graph_pb2.Tensor) -> int:
    """The number of values that a message's shape claims."""
    dims = message.tensor_shape.dim
    sizes = [dim.size for dim in dims[:_MOST_DIMENSIONS]]
    possible = not message.tensor_shape.unknown_rank and len(dims) <= _MOST_DIMENSIONS and min(sizes, default=0) >= 0
    count = math.prod(sizes) if possible else 0
    if not possible or count > _MOST_ELEMENTS:
        shown = f"{sizes[:8]}, and {len(dims) - 8} dimensions more" if len(dims) > 8 else str(sizes)
        raise ValueError(f"a tensor cannot have the shape {shown}")
    return count


def _stored_values(message: graph_pb2.Tensor) -> int:
    """The number of values in the typed field of a message's type."""
    name = numpy_dtype(message.dtype).name
    if message.dtype == STRING:
        return len(message.string_val)
    if name in _BYTES_FIELDS:
        return len(getattr(message, _BYTES_FIELDS[name])) // np.dtype(name).itemsize
    return len(message.half_val if name == "float16" else getattr(message, _LIST_FIELDS[name]))


def _field_values(message: graph_pb2.Tensor, dtype: np.dtype[Any]) -> Array:
    name = dtype.name
    if message.dtype == STRING:
        strings = np.empty(len(message.string_val), object)
        strings[:] = list(message.string_val)
        return strings
    if name in _BYTES_FIELDS:
        return np.frombuffer(getattr(message, _BYTES_FIELDS[name]), dtype)
    if name == "float16":
        return np.array(message.half_val, np.uint16).view(np.float16)
    return np.array(getattr(message, _LIST_FIELDS[name]), dtype)
