"""The compiled row operations (rows.cpp), where they have been built and this machine can run them."""

from __future__ import annotations

import ctypes
import functools
from ctypes import c_float, c_int, c_int64, c_void_p
from pathlib import Path

from recsys.compiled import load_library

LIBRARY = Path(__file__).with_name("librows.so")
VERSION = 3

_UPDATE = [c_void_p, c_void_p, c_int64, c_int64, c_void_p, c_float, c_int]
_SIGNATURES: dict[str, tuple[list[type], type | None]] = {
    "join": ([c_int64, *[c_void_p] * 5], c_int64),
    "pieces": ([c_int64, c_void_p, c_int64], c_int64),
    "distinct": ([c_void_p, c_int64, c_void_p, c_int64, *[c_void_p] * 5, c_int], c_int64),
    "point": ([c_int64, *[c_void_p] * 5, c_int64, c_void_p], None),
    "take": ([c_void_p, c_void_p, c_int64, c_int64, c_void_p, c_int], None),
    "take_bags": ([c_void_p, c_void_p, c_void_p, *[c_int64] * 2, c_int, c_void_p, c_int], None),
    "sum_rows": ([*[c_void_p] * 4, *[c_int64] * 3, c_void_p, c_int], c_int64),
    "update_sgd": ([*_UPDATE, c_float], None),
    "update_adagrad": ([*_UPDATE, c_void_p, c_float, c_float], None),
    "update_adam": ([*_UPDATE, c_void_p, c_void_p, *[c_float] * 4], None),
}


@functools.cache
def kernel(path: Path = LIBRARY) -> ctypes.CDLL | None:
    """The library; None, said once in the log, where it is missing, of another version or for other processors."""
    library = load_library(path, VERSION, "embeddings_in_torch")
    if library is None:
        return None
    for name, (arguments, result) in _SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, result
    return library
