import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

# Parameters of `mallopt` and their defaults.
M_TRIM_THRESHOLD, DEFAULT_TRIM_THRESHOLD = -1, 128 * 1024
M_MMAP_MAX, DEFAULT_MMAP_MAX = -4, 65536


@cache
def _libc() -> Any:
    try:
        libc = ctypes.CDLL('libc.so.6')
        return libc if hasattr(libc, 'malloc_trim') else None
    except OSError:  # Not the GNU C library.
        return None


@contextmanager
def kept_memory() -> Iterator[None]:
    r"""Within, freed memory stays with the process. The GNU C library would
    give back each tensor of over 32 MiB at once, and the system would have to
    clear the pages of the next one, which can take longer than to fill it.
    """
    libc = _libc()
    if libc is None:
        yield
        return
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        libc.mallopt(M_MMAP_MAX, DEFAULT_MMAP_MAX)
        libc.mallopt(M_TRIM_THRESHOLD, DEFAULT_TRIM_THRESHOLD)
        release_memory()


def release_memory() -> None:
    r"""Gives memory that is free back to the system, where the C library
    would keep it. Phases of training need tensors of other sizes, into which
    it fits ill: without this, each adds to the peak.
    """
    libc = _libc()
    if libc is not None:
        libc.malloc_trim(0)
