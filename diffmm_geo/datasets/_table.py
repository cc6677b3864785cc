r"""Tables of delimited text, such as CSV files, and lists of items."""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np

from diffmm_geo.utils.reading import reading

if TYPE_CHECKING:
    import pyarrow as pa

DELIMITERS = ('\t', ',', ';', '|', ' ')
BLOCK_SIZE = 2**24
GZIP = b'\x1f\x8b'

Column = str | int


def read_columns(
    path: str,
    columns: Sequence[tuple[Column, str]],
    delimiter: str | None = '\t',
    header: bool = True,
) -> list[Any]:
    r"""Reads columns of a table, plain or compressed with gzip. The kind of a
    column is :obj:`"id"` (a dictionary of non-empty strings), :obj:`"time"`
    (an array of numbers) or a type of PyArrow (an array).
    """
    import pyarrow as pa
    from pyarrow import csv

    expected = f'a table with columns {[column for column, _ in columns]}'
    with reading(path, expected), _open(path) as f:
        line = f.readline(BLOCK_SIZE)
        f.seek(0)
        if delimiter is None:
            text = line.decode(errors='replace')
            delimiter = next((d for d in DELIMITERS if d in text), ',')
        # Tables with tabs have no quotes, and IDs may have some.
        parse = csv.ParseOptions(
            delimiter=delimiter, quote_char=False if delimiter == '\t' else '"'
        )
        read = csv.ReadOptions(
            # Errors name the row only with a single thread.
            use_threads=False,
            block_size=BLOCK_SIZE,
            autogenerate_column_names=not header,
        )
        there = csv.read_csv(io.BytesIO(line), read, parse).column_names
        names = [_find(there, column) for column, _ in columns]
        if len(set(names)) < len(names):
            raise ValueError(f'one column for several of them: {names}')
        kinds = dict(zip(names, (kind for _, kind in columns)))
        types = {
            name: pa.dictionary(pa.int32(), pa.string())
            if kind == 'id'
            else pa.type_for_alias(kind)
            for name, kind in kinds.items()
            if kind != 'time'
        }
        convert = csv.ConvertOptions(
            include_columns=names, column_types=types, null_values=[]
        )
        table = csv.read_csv(f, read, parse, convert)
        return [_values(table, *column) for column in kinds.items()]


def read_lists(path: str) -> list[Any]:
    r"""Reads lines of a user and the items of this user as two columns."""
    import pyarrow as pa
    import pyarrow.compute as pc

    with reading(path, 'lines of a user and items'), _open(path) as f:
        text = f.read()
        text.decode()
        lines = pa.array(text.splitlines(), pa.string())
        lines = pc.utf8_trim_whitespace(lines)
        lines = lines.filter(pc.not_equal(lines, ''))
        words = pc.utf8_split_whitespace(lines)
        user = pc.list_element(words, 0).dictionary_encode()
        count = pc.list_value_length(words).to_numpy()
        items = words.flatten()
        is_item = np.ones(len(items), bool)
        is_item[np.cumsum(count) - count] = False
        item = items.filter(pa.array(is_item)).dictionary_encode()
        numbers = np.repeat(user.indices.to_numpy(), count - 1)
        # Users without items stay in the dictionary.
        user = pa.DictionaryArray.from_arrays(numbers, user.dictionary)
        return [pa.chunked_array([user]), pa.chunked_array([item])]


def number_ids(
    columns: Sequence[pa.ChunkedArray],
) -> tuple[list[np.ndarray], list[str]]:
    r"""Numbers the distinct IDs of several columns in the order in which they
    first appear. Returns the numbers of each column, and the IDs.
    """
    import pyarrow as pa

    kind = pa.dictionary(pa.int32(), pa.string())
    chunks = [chunk for column in columns for chunk in column.chunks]
    whole = pa.chunked_array(chunks, kind).unify_dictionaries()
    numbers = whole.combine_chunks()
    ends = np.cumsum([len(column) for column in columns])
    return (
        np.split(numbers.indices.to_numpy(), ends[:-1]),
        numbers.dictionary.to_pylist(),
    )


def _open(path: str) -> IO[bytes]:
    with open(path, 'rb') as f:
        is_gzip = f.read(2) == GZIP
    return cast(IO[bytes], gzip.open(path) if is_gzip else open(path, 'rb'))


def _find(names: Sequence[str], column: Column) -> str:
    r"""Finds a column by position or by name. A name also finds RecBole's
    :obj:`name:type`, and otherwise :obj:`Name` and :obj:`name_id`.
    """
    if isinstance(column, int):
        if column >= len(names):
            raise ValueError(f'{len(names)} columns')
        return names[column]

    def plain(name: str) -> str:
        return re.sub(r'[\W_]', '', name.partition(':')[0]).lower()

    for same in (
        lambda name: name == column,
        lambda name: name.partition(':')[0] == column,
        lambda name: plain(name) in (plain(column), f'{plain(column)}id'),
    ):
        found = [name for name in names if same(name)]
        if len(found) == 1:
            return found[0]
        if found:
            break
    raise ValueError(f'columns {list(names)}')


def _values(table: pa.Table, name: str, kind: str) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    column = table[name]
    if kind == 'id':
        for chunk in column.chunks:
            if pc.index(chunk.dictionary, '').as_py() >= 0:
                raise ValueError(f"an empty '{name}'")
        return column
    if kind == 'time':
        if pa.types.is_temporal(column.type):
            column = column.cast(pa.timestamp('ns')).cast(pa.int64())
        numeric = pa.types.is_integer(column.type)
        if not numeric and not pa.types.is_floating(column.type):
            raise ValueError(f'times of type {column.type}')
        if not np.isfinite(column.to_numpy()).all():
            raise ValueError('times that are not finite')
    return column.to_numpy()
