"""TensorFlow Serving's JSON: requests in row (`instances`) or columnar (`inputs`) form to tensors, answers back.

The checks and their texts are those of its `util/json_tensor.cc`.
"""

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from export.contract.errors import InvalidArgumentError, ServingError, error_for
from export.contract.tensors import STRING, Array, decode, dtype_name, encode, served_name
from export.protos import graph_pb2, serving_pb2

_ROW, _COLUMNS, _SIGNATURE, _BASE64 = "instances", "inputs", "signature_name", "b64"
_INTEGERS = {"int8": 32, "int16": 32, "uint8": 32, "int32": 32, "int64": 64}
_UNSIGNED = {"uint32": 32, "uint64": 64}
_UNIMPLEMENTED = 12
_MOST_NESTED = 64
_EXACT = 1 << 53  # beyond it a double, which is what most programs make of a JSON number, skips integers
Signature = Callable[[str], Mapping[str, graph_pb2.TensorInfo]]


def read_predict_body(body: bytes, inputs_of: Signature, request: serving_pb2.PredictRequest) -> bool:
    """Fills a Predict request from the JSON body of a REST call.

    Args:
        body: the HTTP request's body.
        inputs_of: signature name (empty: the default) -> its declared inputs.
        request: gets the signature name and the tensors.

    Returns:
        True for row form, in which the answer must come too.

    Raises:
        ServingError: with TensorFlow Serving's text.
    """
    document = _parse(body)
    name = document.get(_SIGNATURE, "")
    if not isinstance(name, str):
        raise _format_error(document, "not formatted correctly. 'signature_name' key must be a string value.")
    request.model_spec.signature_name = name
    declared = inputs_of(name)
    if not declared:
        raise InvalidArgumentError(f"Failed to get input map for signature: {name or 'DEFAULT'}")
    if _ROW in document and _COLUMNS in document:
        raise _format_error(
            document, "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
        )
    if _ROW not in document and _COLUMNS not in document:
        raise InvalidArgumentError("Missing 'inputs' or 'instances' key")
    row = _ROW in document
    arrays = _of_instances(document, declared) if row else _of_columns(document[_COLUMNS], declared)
    for alias, array in arrays.items():
        encode(array, request.inputs[alias])
    return row


def rounded_inputs(request: serving_pb2.PredictRequest) -> list[str]:
    """The int64 inputs, read from JSON, with numbers beyond 2^53: whoever wrote the JSON may have rounded them."""
    int64 = {alias: decode(tensor) for alias, tensor in request.inputs.items() if dtype_name(tensor.dtype) == "int64"}
    return [alias for alias, array in sorted(int64.items()) if np.any((array > _EXACT) | (array < -_EXACT))]


def predict_body(outputs: Mapping[str, Array], row: bool) -> dict[str, Any]:
    """The answer to a Predict call as JSON, in the form of the request.

    Raises:
        InvalidArgumentError: outputs that rows cannot be made of.
    """
    if not row:
        columns = {name: _plain(name, array) for name, array in outputs.items()}
        return {"outputs": columns if len(columns) > 1 else next(iter(columns.values()))}
    sizes: dict[str, int] = {}
    for name, array in outputs.items():
        if not array.ndim:
            raise InvalidArgumentError(f"Tensor name: {name} has no shape information ")
        if not len(array):
            raise InvalidArgumentError(f"Tensor name: {name} has invalid batch size: 0")
        expected = next(iter(sizes.values()), len(array))
        if expected != len(array):
            raise InvalidArgumentError(
                f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {expected}"
            )
        sizes[name] = len(array)
    plain = {name: _plain(name, array) for name, array in outputs.items()}
    if len(plain) == 1:
        return {"predictions": next(iter(plain.values()))}
    rows = range(next(iter(sizes.values())))
    return {"predictions": [{name: values[row] for name, values in plain.items()} for row in rows]}


def _parse(body: bytes) -> dict[str, Any]:
    if not body:
        raise InvalidArgumentError("JSON Parse error: The document is empty")
    try:
        document = json.loads(body.decode("utf-8"))
    except json.JSONDecodeError as error:
        reason = "The document root must not be followed by other values."
        reason = reason if error.msg == "Extra data" else "Invalid value."
        raise InvalidArgumentError(f"JSON Parse error: {reason} at offset: {error.pos}") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, an endless number, endless nesting
        raise InvalidArgumentError("JSON Parse error: Invalid value. at offset: 0") from error
    _check_nesting(document)
    if rb"\ud" in body.lower():
        try:
            json.dumps(document, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:  # half of a pair: no text that any tensor could hold
            raise InvalidArgumentError("JSON Parse error: The surrogate pair in string is invalid.") from error
    if not isinstance(document, dict):
        raise _format_error(document, "Is not object")
    return document


def _check_nesting(document: Any) -> None:
    """Refuses what is nested deeper than any tensor; whatever reads the rest may then call itself for each level."""
    level, depth = [document] if isinstance(document, (list, dict)) else [], 0
    while level:
        if depth > _MOST_NESTED:
            raise InvalidArgumentError(f"JSON Parse error: nested deeper than {_MOST_NESTED} levels")
        children = (c for v in level for c in (v.values() if isinstance(v, dict) else v))
        level = [child for child in children if isinstance(child, (list, dict))]
        depth += 1


def _of_columns(value: Any, declared: Mapping[str, graph_pb2.TensorInfo]) -> dict[str, Array]:
    if not isinstance(value, dict) or _is_base64(value):
        if len(declared) > 1:
            raise InvalidArgumentError(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per"
                " tensorinfo_map"
            )
        ((name, info),) = declared.items()
        return {name: _array(value, info.dtype)}
    arrays = {}
    for name, info in declared.items():
        if name not in value:
            raise InvalidArgumentError(f"Missing named input: {name} in 'inputs' object.")
        arrays[name] = _array(value[name], info.dtype)
    return arrays


def _of_instances(document: Mapping[str, Any], declared: Mapping[str, graph_pb2.TensorInfo]) -> dict[str, Array]:
    instances = document[_ROW]
    if not isinstance(instances, list):
        raise _format_error(document, "Excepting 'instances' to be an list/array")
    if not instances:
        raise _format_error(document, "No values in 'instances' array")
    named = _is_named(instances[0])
    if not isinstance(instances[0], dict) and len(declared) > 1:
        raise InvalidArgumentError(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per"
            " tensorinfo_map"
        )
    rows: dict[str, list[Array]] = {}
    for place, element in enumerate(instances):
        if named != _is_named(element):
            wrong = "object but got list" if named else "value/list but got object"
            raise InvalidArgumentError(f"Expecting {wrong} at item {place} of input list")
        values = element if named else {next(iter(declared)): element}
        for name, value in values.items():
            try:
                _add_row(rows, name, value, declared)
            except ServingError as error:
                key = f" key: {name}" if named else ""
                raise InvalidArgumentError(
                    f"Failed to process element: {place}{key} of 'instances' list."
                    f" Error: {error.status}: {error.message}"
                ) from error
        if set(values) != set(declared):
            raise InvalidArgumentError(
                f"Failed to process element: {place} of 'instances' list. JSON object: {_shown(element)}"
                f" must only have keys: {','.join(sorted(declared))}"
            )
    return {name: np.stack(arrays) for name, arrays in rows.items()}


def _add_row(rows: dict[str, list[Array]], name: str, value: Any, declared: Mapping[str, graph_pb2.TensorInfo]) -> None:
    if name not in declared:
        raise InvalidArgumentError(f"JSON object: does not have named input: {name}")
    array = _array(value, declared[name].dtype)
    first = rows.setdefault(name, [array])[0]
    if first is array:
        return
    if first.size != array.size:
        raise InvalidArgumentError(f"Expecting tensor size: {first.size} but got: {array.size}")
    if first.shape != array.shape:
        shapes = ["[" + ",".join(map(str, shape)) + "]" for shape in (first.shape, array.shape)]
        raise InvalidArgumentError(f"Expecting shape {shapes[0]} but got: {shapes[1]}")
    rows[name].append(array)


def _array(value: Any, number: int) -> Array:
    """One tensor; its shape is that of the first elements, all others must agree."""
    shape: list[int] = []
    inner = value
    while isinstance(inner, list):
        shape.append(len(inner))
        inner = inner[0] if inner else None
    flat: list[Any] = []
    _fill(value, 0, shape, number, flat)
    dtype = object if number == STRING else dtype_name(number)
    array = np.empty(len(flat), dtype)
    array[:] = flat
    return array.reshape(shape)


def _fill(value: Any, level: int, shape: list[int], number: int, flat: list[Any]) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            raise InvalidArgumentError(
                f"JSON Value: {_shown(value)} found at incorrect level: {level + 1} in the JSON DOM."
                f" Expected at level: {len(shape)}"
            )
        flat.append(_element(value, number))
        return
    if level >= len(shape):
        raise InvalidArgumentError(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise InvalidArgumentError(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for element in value:
        _fill(element, level + 1, shape, number, flat)


def _element(value: Any, number: int) -> Any:
    name = dtype_name(number)
    whole = isinstance(value, int) and not isinstance(value, bool)
    if name in _INTEGERS:
        half = 1 << (_INTEGERS[name] - 1)
        fits = whole and -half <= value < half
    elif name in _UNSIGNED:
        fits = whole and 0 <= value < 1 << _UNSIGNED[name]
    elif name in ("float32", "float64"):
        fits = whole or isinstance(value, float)
        if fits and not _lossless(value, name):
            raise InvalidArgumentError(
                f"Cannot convert JSON value: {_shown(value)} to {served_name(number)} without loss of precision."
            )
    elif name == "bool":
        fits = isinstance(value, bool)
    elif name == "string":
        if isinstance(value, dict):
            return _decoded(value)
        fits = isinstance(value, str)
    else:
        raise error_for(_UNIMPLEMENTED, f"Conversion of JSON Value: {_shown(value)} to type: {served_name(number)}")
    if not fits:
        raise InvalidArgumentError(
            f"JSON Value: {_shown(value)} Type: {_json_type(value)} is not of expected type: {served_name(number)}"
        )
    return value


def _lossless(value: float, name: str) -> bool:
    if isinstance(value, int):
        return abs(value) < 1 << np.finfo(name).nmant + 1
    return bool(not np.isfinite(value) or abs(value) <= np.finfo(name).max)


def _decoded(value: dict[str, Any]) -> bytes:
    if not _is_base64(value):
        raise _format_error(value, "not formatted correctly for base64 data")
    try:
        return base64.b64decode(value[_BASE64], validate=True)
    except binascii.Error as error:
        raise InvalidArgumentError("Unable to base64 decode") from error


def _plain(name: str, array: Array) -> Any:
    if array.dtype.kind == "O":
        as_bytes = name.endswith("_bytes")
        texts = [
            {_BASE64: base64.b64encode(value).decode()} if as_bytes else value.decode("utf-8", "replace")
            for value in array.ravel().tolist()
        ]
        shaped = np.empty(len(texts), object)
        shaped[:] = texts
        return shaped.reshape(array.shape).tolist()
    if array.dtype.name == "float32":  # 0.2, not 0.20000000298023224
        array = np.array([float(str(value)) for value in array.ravel()]).reshape(array.shape)
    return array.tolist()


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _is_base64(value: dict[str, Any]) -> bool:
    return len(value) == 1 and isinstance(value.get(_BASE64), str)


def _format_error(value: Any, rule: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"JSON Value: {_shown(value)} {rule}")


def _shown(value: Any) -> str:
    return json.dumps(value, indent=4, ensure_ascii=False)


def _json_type(value: Any) -> str:
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return str(value)
    kinds = ((dict, "Object"), (list, "Array"), (str, "String"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "Number")
