from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar('T')


def read_columns(path: str, columns: Sequence[str]) -> list[list[str]]:
    r"""Reads columns of a tab-separated file, which are found by their names
    in its header.

    Args:
        path (str): The file.
        columns (list[str]): The names of the columns to return, in order.
    """
    try:
        with open(path, encoding='utf-8-sig') as f:
            lines = f.read().split('\n')
    except UnicodeDecodeError as error:
        raise ValueError(
            f"'{path}': expected UTF-8 text, got: {error}"
        ) from error

    header = lines[0].split('\t')
    missing = [column for column in columns if column not in header]
    if missing:
        raise ValueError(
            f"'{path}': expected a tab-separated header with {missing}, got "
            + f'{header[:50]}'[:500]
        )
    index = [header.index(column) for column in columns]

    out: list[list[str]] = [[] for _ in columns]
    for number, line in enumerate(lines[1:], start=2):
        if not line:
            continue
        fields = line.split('\t')
        if len(fields) != len(header):
            raise ValueError(
                f"'{path}', line {number}: expected {len(header)} "
                f'tab-separated fields, got {len(fields)}'
            )
        for values, i in zip(out, index):
            values.append(fields[i])
    return out


def parse_column(
    path: str,
    column: str,
    values: Sequence[str],
    parse: Callable[[str], T],
    expected: str,
) -> list[T]:
    r"""Parses the values of a column.

    Args:
        path (str): The file, for the message.
        column (str): The name of the column, for the message.
        values (list[str]): The values to parse.
        parse (callable): Turns a value into what it stands for; raises
            :class:`ValueError` or :class:`KeyError` if it cannot.
        expected (str): What is expected, for the message.
    """
    out = []
    for row, value in enumerate(values):
        try:
            out.append(parse(value))
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"'{path}', row {row} after the header: expected {column} to "
                f'be {expected}, got {value[:50]!r}'
            ) from error
    return out


def parse_id(value: str) -> int:
    r"""Parses a non-negative integer below :math:`2^{31}`.

    Args:
        value (str): The value.
    """
    # `int` alone would let '-1', '1_000' and ' 1' pass. The bound keeps
    # `user * num_items + item` inside of 64 bits.
    if not (value.isascii() and value.isdigit() and len(value) <= 10):
        raise ValueError
    out = int(value)
    if out >= 2**31 - 1:
        raise ValueError
    return out
