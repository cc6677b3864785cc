from collections.abc import Mapping

import numpy as np

from diffmm_geo.utils.expecting import expecting

# IDs become indices, and one more than the largest is their number.
MAX_ID = 2**31 - 2


def read_columns(path: str, columns: Mapping[str, str]) -> list[np.ndarray]:
    r"""Reads columns of a tab-separated file with a header.

    Args:
        path (str): The file.
        columns (dict[str, str]): The names of the columns to return, in
            order, with their types: :obj:`"uint32"` for IDs, and other names
            of types of PyArrow.

    Raises:
        ValueError: If the file has no such columns, or a value of another
            type.
    """
    # Here, as a machine that reads no tables may not have it.
    import pyarrow as pa
    from pyarrow import csv

    names = ', '.join(f'{name} ({kind})' for name, kind in columns.items())
    with expecting(path, f'a tab-separated table with columns {names}'):
        table = csv.read_csv(
            path,
            # Only a single thread tells the row of an error.
            csv.ReadOptions(use_threads=False),
            csv.ParseOptions(delimiter='\t', quote_char=False),
            csv.ConvertOptions(
                include_columns=list(columns),
                column_types={
                    name: pa.type_for_alias(kind)
                    for name, kind in columns.items()
                },
                null_values=[],
            ),
        )
        out = [column.to_numpy() for column in table.columns]
        for name, values in zip(columns, out):
            if columns[name] == 'uint32' and values.max(initial=0) > MAX_ID:
                raise ValueError(f"'{name}' of {values.max()}")
    return out
