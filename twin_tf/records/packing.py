r"""Whole numbers packed into as few bytes as their range needs: how records hold the arrays of events and targets.

A value takes `width` bytes (1 to 8), unsigned and little-endian, one value after another. The width of an array is the
same in every record of a prepared directory; its manifest lists them. NumPy only: `twin_tf.records.input_pipeline`
unpacks in the graph.

Example:
    >>> pack(np.array([1, 70_000]), 3)
    b'\x01\x00\x00p\x11\x01'
    >>> unpack(pack(np.array([1, 70_000]), 3), 3)
    array([    1, 70000])
"""

import numpy as np
import numpy.typing as npt

MAX_WIDTH = 8
FLOAT_WIDTH = 4


def width_of(largest: int) -> int:
    """Bytes that every number from 0 to `largest` fits into, at least 1."""
    return max(1, (int(largest).bit_length() + 7) // 8)


def pack(values: npt.NDArray[np.integer], width: int) -> bytes:
    """Packs numbers that are not negative.

    Args:
        values: `(n,)`.
        width: bytes a value.

    Returns:
        n * width bytes.

    Raises:
        ValueError: a number that does not fit; cutting it would make another number of it.
    """
    if len(values) and not (values.min() >= 0 and width_of(int(values.max())) <= width):
        raise ValueError(f"values from {values.min()} to {values.max()} do not fit into {width} bytes each")
    if width in (1, 2, 4):
        return values.astype(f"<u{width}").tobytes()
    whole = values.astype("<i8").view(np.uint8).reshape(-1, MAX_WIDTH)
    return whole[:, :width].tobytes()


def float_bits(values: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
    """Numbers as whole numbers of `FLOAT_WIDTH` bytes: the bits of their float32; from 0 on they keep their order."""
    bits: npt.NDArray[np.int64] = (values.astype(np.float32) + np.float32(0)).view(np.uint32).astype(np.int64)
    return bits


def from_bits(bits: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """The inverse of `float_bits`."""
    values: npt.NDArray[np.float32] = bits.astype(np.uint32).view(np.float32)
    return values


def unpack(data: bytes, width: int) -> npt.NDArray[np.int64]:
    """The inverse of `pack`.

    Returns:
        int64 `(n,)`.
    """
    if width in (1, 2, 4):
        return np.frombuffer(data, f"<u{width}").astype(np.int64)
    whole = np.zeros((len(data) // width, MAX_WIDTH), np.uint8)
    whole[:, :width] = np.frombuffer(data, np.uint8).reshape(-1, width)
    return whole.view("<i8")[:, 0]
