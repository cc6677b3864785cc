import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO


@contextmanager
def expecting(
    path: str,
    expected: str,
    got: str | None = None,
) -> Iterator[BinaryIO]:
    r"""Opens a file and turns whatever a reader raises on a damaged one into
    a :class:`ValueError` that names the file.

    Args:
        path (str): The file.
        expected (str): What it should be.
        got (str, optional): What it is if it cannot be read, the error that
            the reader raised if not given. (default: :obj:`None`)

    Raises:
        OSError: If the file cannot be opened.
        ValueError: If the file cannot be read.
    """
    with open(path, 'rb') as f:
        try:
            yield f
        except Exception as error:  # Readers raise nearly anything on garbage.
            size = os.fstat(f.fileno()).st_size
            reason = _reason(error)
            got = f'{got} ({reason})' if got else f'{reason} in {size} bytes'
            raise ValueError(f"'{path}': expected {expected}, got {got}") from (
                error
            )


def _reason(error: Exception) -> str:
    # One line, without the advice of `torch.load` to execute the file.
    text, _, _ = str(error).partition('\n\nCheck the documentation')
    text = text.rpartition('WeightsUnpickler error: ')[2].strip()
    if text.startswith('Weights only load failed'):
        text = text.rpartition('\n\n')[2]
    line = text.partition('\n')[0][:300]
    return (
        line if type(error) is ValueError else f'{type(error).__name__}: {line}'
    )
