import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def atomic_path(path: str) -> Iterator[str]:
    r"""Yields a temporary path beside :obj:`path`, which takes its place only
    if the block ends without an exception.
    Hence :obj:`path` is either as it was or complete, also after Ctrl-C.

    Args:
        path (str): The path to write in the end.
    """
    temporary = f'{path}.{uuid.uuid4().hex}.tmp'
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            os.remove(temporary)
