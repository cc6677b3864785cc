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
def kept_memory(enabled: bool = True) -> Iterator[None]:
    r"""Keeps freed memory in the process. By default, the GNU C library
    returns tensors of over 32 MiB to the system, which clears the pages of the
    next tensor. Clearing can take longer than computing its values.
    """
    libc = _libc()
    if libc is None or not enabled:
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
    r"""Returns free memory to the system. Phases of training use tensors of
    different sizes, so kept memory would add to the peak of each phase.
    """
    libc = _libc()
    if libc is not None:
        libc.malloc_trim(0)
