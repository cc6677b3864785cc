from __future__ import annotations

import csv
import os
from pathlib import Path

from diffmm_geo.training.loggers.logger import Logger, flatten_record
from diffmm_geo.training.trainer import Record
from diffmm_geo.utils.atomic import atomic_path
from diffmm_geo.utils.expecting import expecting
from diffmm_geo.utils.paths import check_path

EPOCH = 'epoch'


class CSVLogger(Logger):
    r"""Writes a CSV file with a row for each epoch: its number in the column
    :obj:`epoch`, and the rest of its record in columns such as
    :obj:`loss.bpr`, :obj:`val.recall@20` and :obj:`seconds.generate`.
    The file is replaced after each epoch, so that it is always complete.

    .. code-block:: python

        trainer.fit(callback=CSVLogger('runs/history.csv'))

    Args:
        path (str or Path): The file. An existing file is continued. Logging an
            epoch replaces its row and the rows of later epochs.

    Raises:
        ValueError: If the existing file was not written by this logger.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = check_path('path', path)
        self._rows = self._read() if self.path.exists() else []

    def _read(self) -> list[dict[str, str]]:
        expected = f"a file of CSVLogger with a column '{EPOCH}' of numbers"
        with (
            expecting(str(self.path), expected),
            open(self.path, encoding='utf-8', newline='') as f,
        ):
            reader = csv.DictReader(f, strict=True)
            rows = list(reader)
            if EPOCH not in (reader.fieldnames or []):
                raise ValueError(f'the columns {reader.fieldnames}')
            for row in rows:
                int(row[EPOCH])
                # Short rows are filled with None, and long ones end in it.
                if None in row or None in row.values():
                    raise ValueError('rows of different lengths')
            return rows

    def __call__(self, record: Record) -> None:
        epoch = int(record[EPOCH])
        values = flatten_record(record, '.')
        row = {EPOCH: str(epoch), **{k: repr(v) for k, v in values.items()}}
        self._rows = [r for r in self._rows if int(r[EPOCH]) < epoch] + [row]
        # In the order in which they first appear.
        names = dict.fromkeys(name for row in self._rows for name in row)
        os.makedirs(self.path.parent, exist_ok=True)
        with atomic_path(str(self.path)) as temporary:
            with open(temporary, 'w', encoding='utf-8', newline='') as f:
                writer = csv.DictWriter(f, list(names), lineterminator='\n')
                writer.writeheader()
                writer.writerows(self._rows)
