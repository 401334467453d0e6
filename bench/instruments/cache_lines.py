"""Arrays that begin at a cache line, whatever the heap looks like.

NumPy takes its arrays from ``malloc``, which begins them at any multiple of 16 bytes. At which one depends on all that
the process has allocated before, and it matters: a processor that stores 64 bytes at a time needs two accesses for each
store that crosses the border of a cache line, and a call may take half as long again. Other libraries align what they
allocate; NumPy lets its memory handler be replaced (NEP 49), here by one that calls glibc's ``memalign``.
"""

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from functools import cache

import numpy._core._multiarray_umath as numpy_core  # type: ignore[import-not-found, unused-ignore]

LINE_BYTES = 64
HANDLER_NAME = b"mem_handler"  # the name that NumPy expects of a capsule; capsules keep the pointer
SET_HANDLER = 304  # the place of PyDataMem_SetHandler in the table of NumPy's functions, since 1.22
RAW_DOMAIN = 0  # PYMEM_DOMAIN_RAW of Python's allocators: malloc and free themselves


class _Allocator(ctypes.Structure):
    """Of Python (PyMemAllocatorEx) and of NumPy (PyDataMemAllocator): functions that get ``context`` first."""

    _fields_ = (
        ("context", ctypes.c_void_p),
        ("malloc", ctypes.c_void_p),
        ("calloc", ctypes.c_void_p),
        ("realloc", ctypes.c_void_p),
        ("free", ctypes.c_void_p),
    )


class _Handler(ctypes.Structure):
    """NumPy's PyDataMem_Handler."""

    _fields_ = (("name", ctypes.c_char * 127), ("version", ctypes.c_uint8), ("allocator", _Allocator))


@contextlib.contextmanager
def at_cache_lines() -> Iterator[None]:
    """A block in which the arrays that NumPy makes in this thread begin at a multiple of ``LINE_BYTES``.

    Those full of zeros (``calloc``) begin as before. Taking such memory costs a tenth of a microsecond more, and the
    largest arrays get no huge pages. Nothing happens without ``memalign``, or where Python's own allocators are
    watched (``PYTHONMALLOC=debug``, tracemalloc): memory from elsewhere would confuse them.
    """
    handler = _aligned()
    if handler is None:
        yield
        return
    set_handler = _setter()
    before = set_handler(handler)
    try:
        yield
    finally:
        set_handler(before)


@cache
def _aligned() -> object | None:
    """A capsule with the handler, for the rest of the process; None where there can be none."""
    raw = _Allocator()
    ctypes.pythonapi.PyMem_GetAllocator(RAW_DOMAIN, ctypes.byref(raw))
    memalign = getattr(ctypes.CDLL(None), "memalign", None)
    if memalign is None or raw.context is not None:
        return None
    # memalign(alignment, size) takes what an allocator's malloc takes; the context is then the alignment. Python's own
    # functions take no notice of theirs, nor of the size that NumPy tells when it frees.
    aligned = _Allocator(LINE_BYTES, ctypes.cast(memalign, ctypes.c_void_p), raw.calloc, raw.realloc, raw.free)
    handler = _Handler(b"at_cache_lines", 1, aligned)
    # An array may outlive all modules and is still freed through its handler.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(handler))
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    capsule: object = new(ctypes.addressof(handler), HANDLER_NAME, None)
    return capsule


@cache
def _setter() -> Callable[[object], object]:
    """NumPy's function that makes a capsule's handler that of this thread and returns the one before."""
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    table: int = pointer(numpy_core._ARRAY_API, None)
    address = ctypes.c_void_p.from_address(table + SET_HANDLER * ctypes.sizeof(ctypes.c_void_p)).value or 0
    setter: Callable[[object], object] = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(address)
    return setter
