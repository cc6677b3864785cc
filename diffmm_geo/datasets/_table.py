from collections.abc import Mapping

import numpy as np

from diffmm_geo.utils.expecting import expecting

# The number of IDs, one more than the largest, fits in 31 bits.
MAX_ID = 2**31 - 2


def read_columns(path: str, columns: Mapping[str, str]) -> list[np.ndarray]:
    r"""Reads tab-separated columns, by name and PyArrow type."""
    import pyarrow as pa
    from pyarrow import csv

    names = ', '.join(f'{name} ({kind})' for name, kind in columns.items())
    with expecting(path, f'a tab-separated table with columns {names}'):
        table = csv.read_csv(
            path,
            # Errors name the row only with a single thread.
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
