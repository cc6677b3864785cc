import ctypes
from functools import cache
from typing import Any


@cache
def _libc() -> Any:
    try:
        libc = ctypes.CDLL('libc.so.6')
        return libc if hasattr(libc, 'malloc_trim') else None
    except OSError:  # Not the GNU C library.
        return None


def release_memory() -> None:
    r"""Gives memory that is free back to the system, where the C library
    would keep it. Phases of training need tensors of other sizes, into which
    it fits ill: without this, each adds to the peak.
    """
    libc = _libc()
    if libc is not None:
        libc.malloc_trim(0)
