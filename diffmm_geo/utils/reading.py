from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def reading(path: str, expected: str) -> Iterator[None]:
    r"""Turns any error of the block into a :class:`ValueError` that names the
    file and what it should be. Damaged files raise anything.
    """
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        raise  # They name the file.
    except Exception as error:
        got = str(error).partition('\n')[0][:300]
        if type(error) is not ValueError:
            got = f'{type(error).__name__}: {got}'
        raise ValueError(f"'{path}': expected {expected}, got {got}") from error
