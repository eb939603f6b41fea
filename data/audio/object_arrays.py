"""Object arrays as numpy pickles them -> arrays of arrays, although any program can be in a pickle
and numpy believes whatever one says of an array's memory.

    array = load(io.BytesIO(raw))  # object (n,), of arrays of numbers or of lists

Nothing of numpy is called: a pickled array is the name of its function, and a state (version,
shape, type, whether by columns, bytes or list of elements), see numpy.ndarray.__reduce__.
"""

import io
import math
import pickle
import pickletools
from typing import Any

import numpy as np

NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray", "numpy")
KINDS = "biufUS"  # of types without references: numbers and text


def load(file: io.BytesIO) -> np.ndarray:
    """The pickled array from here on. Errors: UnpicklingError if it holds anything but arrays,
    lists and numbers, or claims more than there is; others of `pickle` if it is damaged."""
    at, n_bytes = file.tell(), len(file.getbuffer())
    for opcode, argument, _ in pickletools.genops(file):
        is_put = opcode.name.endswith("PUT")  # for which Python sets aside that many places
        if opcode.name == "BYTEARRAY8" or (is_put and int(argument or 0) > n_bytes):
            raise pickle.UnpicklingError("an object array claims more than there is")
    file.seek(at)
    found = _Unpickler(file).load()
    if not isinstance(found, _Array) or found.array is None:
        raise pickle.UnpicklingError("an object array is none")
    return found.array


class _Unpickler(pickle.Unpickler):
    """Loads what stands for arrays and their types, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a part of numpy. Errors: UnpicklingError for all else."""
        parts = {"_reconstruct": _new_array, "ndarray": None, "dtype": _new_type}
        if module not in NUMPY or name not in parts:
            raise pickle.UnpicklingError(f"an object array holds {module}.{name}, no numbers")
        return parts[name]


class _Type:
    """A type, `code` as in "f4", and `order` of its bytes."""

    def __init__(self, code: str):
        self.code, self.order = code, "|"

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1]


class _Array:
    """An array, None before its state is known."""

    def __init__(self) -> None:
        self.array: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, by_columns, held = state
        shape = tuple(int(side) for side in shape)
        if not isinstance(kind, _Type) or min(shape, default=0) < 0:
            raise pickle.UnpicklingError("an array without a type or a shape")
        if kind.code.startswith("O") and isinstance(held, list) and math.prod(shape) == len(held):
            flat = np.empty(len(held), object)
            for i, part in enumerate(held):  # one by one: arrays of one length are no table
                flat[i] = part.array if isinstance(part, _Array) else part
        else:
            dtype = np.dtype(kind.code).newbyteorder(kind.order)
            if dtype.kind not in KINDS or len(held) != math.prod(shape) * dtype.itemsize:
                raise pickle.UnpicklingError(f"{len(held)} bytes of an array {dtype} {shape}")
            flat = np.frombuffer(held, dtype)
        self.array = flat.reshape(shape, order="F" if by_columns else "C")


def _new_array(*_: Any) -> _Array:
    return _Array()


def _new_type(code: str, *_: Any) -> _Type:
    return _Type(code)
