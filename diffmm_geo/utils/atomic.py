import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def atomic_path(path: str) -> Iterator[str]:
    r"""Yields a temporary path beside :obj:`path`, which takes its place only
    if the block ends without an exception, and once it is on disk.
    Hence :obj:`path` is either as it was or complete, also after Ctrl-C and
    where the machine stops.

    Args:
        path (str): The path to write in the end.
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
    r"""Waits until a file is on disk.

    Args:
        path (str): The file.
    """
    with open(path, 'rb+') as file:
        os.fsync(file.fileno())


def sync_folder(path: str) -> None:
    r"""Waits until the name of a file is on disk.

    Args:
        path (str): The file.
    """
    if os.name != 'posix':  # Folders can't be opened elsewhere.
        return
    folder = os.open(os.path.dirname(path) or '.', os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
