import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from export.contract.tensors import decode, encode
from export.protos import graph_pb2

NAMES = [
    "float32",
    "float64",
    "float16",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "bool",
]
arrays = st.sampled_from(NAMES).flatmap(
    lambda name: hnp.arrays(name, hnp.array_shapes(min_dims=0, min_side=0, max_side=4))
)


@given(arrays, st.booleans())
def test_every_array_survives_the_wire(array, typed_fields):
    message = graph_pb2.Tensor()
    encode(array, message, typed_fields)
    back = decode(graph_pb2.Tensor.FromString(message.SerializeToString()))
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


def test_strings_and_foreign_byte_order():
    message = graph_pb2.Tensor()
    encode(np.array([["a", "\u00e9"]]), message)
    assert decode(message).tolist() == [[b"a", "\u00e9".encode()]]
    message = graph_pb2.Tensor()
    encode(np.array([1, 2], ">i8"), message)
    assert decode(message).tolist() == [1, 2]


def test_a_shorter_field_is_refused_or_filled_as_tensorflow_does():
    message = graph_pb2.Tensor(dtype=9, int64_val=[4, 5])
    message.tensor_shape.dim.add(size=4)
    with pytest.raises(ValueError, match=r"2 values do not fill the shape \[4\]"):
        decode(message)
    assert decode(message, exact=False).tolist() == [4, 5, 5, 5]
    del message.int64_val[:]
    assert decode(message, exact=False).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("content", "size", "dtype", "sentence"),
    [
        (b"1234567", 1, 9, "7 bytes do not fill shape [1] of int64"),
        (b"12345678", -1, 9, "a tensor cannot have the shape [-1]"),
        (b"12345678", 1 << 60, 9, "a tensor cannot have the shape"),
        (b"12", 1, 14, "tensors of dtype 14 are not supported"),
        (b"1", 1, 7, "1 bytes do not fill shape [1] of string"),
    ],
)
def test_content_that_cannot_be_is_refused(content, size, dtype, sentence):
    message = graph_pb2.Tensor(dtype=dtype, tensor_content=content)
    message.tensor_shape.dim.add(size=size)
    with pytest.raises(ValueError, match=re.escape(sentence)):
        decode(message, exact=False)
