import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def atomic_path(path: str) -> Iterator[str]:
    r"""Yields a temporary path that replaces :obj:`path` once the block has
    ended without an exception and the file is on disk. After an interrupt or
    a crash of the machine, :obj:`path` is unchanged or complete.
    """
    temporary = f'{path}.{uuid.uuid4().hex}.tmp'
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync_folder(path)
    finally:
        with suppress(FileNotFoundError):
            os.remove(temporary)


def sync(path: str) -> None:
    r"""Waits until a file is on disk."""
    with open(path, 'rb+') as file:
        os.fsync(file.fileno())


def sync_folder(path: str) -> None:
    r"""Waits until the name of a file is on disk."""
    if os.name != 'posix':  # Only POSIX opens folders.
        return
    folder = os.open(os.path.dirname(path) or '.', os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
