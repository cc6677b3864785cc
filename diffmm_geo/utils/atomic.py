import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def atomic_path(path: str) -> Iterator[str]:
    r"""Yields a temporary path that replaces :obj:`path` once the block has
    ended without an exception and the file is on disk. After an interrupt or
    a crash of the machine, :obj:`path` is unchanged or complete. An
    :class:`OSError` names :obj:`path`.
    """
    temporary = f'{path}.{uuid.uuid4().hex}.tmp'
    try:
        yield temporary
        with open(temporary, 'rb+') as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path)
    except Exception as error:
        # Writers in C++ and Rust have errors of their own for a full disk.
        reason = (
            error if isinstance(error, OSError) else _write_error(temporary)
        )
        if reason is None or reason.errno is None:
            raise
        if reason.filename not in (None, temporary):  # It names its file.
            raise
        raise OSError(reason.errno, reason.strerror, path) from error
    finally:
        with suppress(FileNotFoundError):
            os.remove(temporary)


def _write_error(path: str) -> OSError | None:
    r"""The error of writing more to a file, if any."""
    try:
        with open(path, 'ab') as file:
            file.write(bytes(2**16))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error
    return None


def _sync_folder(path: str) -> None:
    r"""Waits until the name of a file is on disk."""
    if os.name != 'posix':  # Only POSIX opens folders.
        return
    folder = os.open(os.path.dirname(path) or '.', os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
