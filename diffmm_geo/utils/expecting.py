import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO


@contextmanager
def expecting(
    path: str, expected: str, got: str | None = None
) -> Iterator[BinaryIO]:
    r"""Opens a file. Turns any error of the block into a :class:`ValueError`
    that names the file, :obj:`expected` and :obj:`got` (default: the error).
    """
    try:
        file = open(path, 'rb')  # noqa: SIM115
    except (FileNotFoundError, IsADirectoryError) as error:
        what = 'a folder' if os.path.isdir(path) else 'no such file'
        message = f"'{path}': expected {expected}, got {what}"
        raise type(error)(message) from None
    with file as f:
        try:
            yield f
        except Exception as error:  # Damaged files raise anything.
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
