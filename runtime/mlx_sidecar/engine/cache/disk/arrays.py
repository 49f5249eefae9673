"""Arrays to bytes and back, without device operations, because only the step loop may ask for those."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple, cast

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer


class Kind(NamedTuple):
    """A type of array elements: how numpy reads them, and their DLPack code where it differs from numpy's."""

    dtype: type[np.generic]
    code: int | None = None

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return np.dtype(self.dtype).itemsize


_DLPACK_BFLOAT = 4

# By the names that safetensors gives them.
KINDS = {
    "BOOL": Kind(np.bool_),
    "U8": Kind(np.uint8),
    "I8": Kind(np.int8),
    "U16": Kind(np.uint16),
    "I16": Kind(np.int16),
    "F16": Kind(np.float16),
    "BF16": Kind(np.uint16, _DLPACK_BFLOAT),
    "U32": Kind(np.uint32),
    "I32": Kind(np.int32),
    "F32": Kind(np.float32),
    "U64": Kind(np.uint64),
    "I64": Kind(np.int64),
}

_NAMES = {
    mx.bool_: "BOOL",
    mx.uint8: "U8",
    mx.int8: "I8",
    mx.uint16: "U16",
    mx.int16: "I16",
    mx.float16: "F16",
    mx.bfloat16: "BF16",
    mx.uint32: "U32",
    mx.int32: "I32",
    mx.float32: "F32",
    mx.uint64: "U64",
    mx.int64: "I64",
}


def kind_name(array: mx.array) -> str | None:
    """Return the name of the element type in safetensors; None for types that no cache has (complex, double)."""
    return _NAMES.get(array.dtype)


def content(array: mx.array) -> Buffer:
    """Return the bytes of an evaluated array in the order of its elements: its own memory, unless it is strided."""
    view = memoryview(cast("Buffer", array))  # the stubs of mlx do not say that it is one
    if not array.size:
        return b""
    return view.cast("B") if view.c_contiguous else view.tobytes()


def from_content(kind: str, shape: tuple[int, ...], data: NDArray[np.uint8]) -> mx.array:
    """Copy ``data`` to an evaluated array; it is writable, aligned for its type, and as long as ``shape`` says."""
    dtype, code = KINDS[kind]
    elements: Any = data.view(dtype).reshape(shape)
    return mx.array(elements if code is None else _Relabelled(elements, code))


class _DataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    """The head of DLPack's DLTensor, up to the type of its elements."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", ctypes.c_int32 * 2),
        ("ndim", ctypes.c_int32),
        ("dtype", _DataType),
    )


_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype = ctypes.c_void_p
_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]


class _Relabelled:
    """Elements of a type that numpy lacks, for a consumer of DLPack.

    A view of an ``mx.array`` would be a device operation, bound to a stream of the calling thread.
    """

    def __init__(self, elements: NDArray[Any], code: int) -> None:
        self._elements = elements
        self._code = code

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._elements.__dlpack_device__()

    def __dlpack__(self, **_: object) -> object:
        capsule = self._elements.__dlpack__()
        _Tensor.from_address(_pointer(capsule, b"dltensor")).dtype.code = self._code
        return capsule
