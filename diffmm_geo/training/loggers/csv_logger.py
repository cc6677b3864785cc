from __future__ import annotations

import csv
import os
from pathlib import Path

from diffmm_geo.training.loggers.logger import Logger, flatten_record
from diffmm_geo.training.trainer import Record
from diffmm_geo.utils.atomic import atomic_path

EPOCH = 'epoch'


class CSVLogger(Logger):
    r"""Writes a CSV file with a row for each epoch: its number in the column
    :obj:`epoch`, and all else of its record in columns such as
    :obj:`loss.bpr`, :obj:`val.recall@20` and :obj:`seconds.generate`.
    The file is replaced with each epoch, so that it is complete at any time.

    .. code-block:: python

        trainer.fit(callback=CSVLogger('runs/history.csv'))

    Args:
        path (str or Path): The file. One that is there already is continued:
            rows of the epochs that are logged now, and of later ones, are
            replaced.

    Raises:
        ValueError: If the file is there, but none of this logger.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._rows = self._read() if self.path.exists() else []

    def _read(self) -> list[dict[str, str]]:
        expected = (
            f"'path' needs to be a new file or one that this logger wrote, "
            f"with a column '{EPOCH}' of numbers"
        )
        try:
            with open(self.path, encoding='utf-8', newline='') as f:
                reader = csv.DictReader(f, strict=True)
                rows = list(reader)
                names = list(reader.fieldnames or [])
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(
                f"{expected} (got '{self.path}', which cannot be read as "
                f'one: {error})'
            ) from error
        for row in rows:
            # The reader fills up short rows with None, and keeps what is too
            # much under None.
            if None in row or None in row.values():
                raise ValueError(
                    f"{expected} (got '{self.path}' with rows of different "
                    f'lengths)'
                )
        if EPOCH not in names or not all(r[EPOCH].isdigit() for r in rows):
            raise ValueError(
                f"{expected} (got '{self.path}' with the columns {names})"
            )
        return rows

    def __call__(self, record: Record) -> None:
        epoch = int(record[EPOCH])
        self._rows = [r for r in self._rows if int(r[EPOCH]) < epoch]
        values = flatten_record(record, '.')
        self._rows.append(
            {EPOCH: str(epoch), **{k: repr(v) for k, v in values.items()}}
        )
        # In the order in which they first appear.
        names = list(dict.fromkeys(name for row in self._rows for name in row))
        os.makedirs(self.path.parent, exist_ok=True)
        with atomic_path(str(self.path)) as temporary:
            with open(temporary, 'w', encoding='utf-8', newline='') as f:
                writer = csv.DictWriter(f, names, lineterminator='\n')
                writer.writeheader()
                writer.writerows(self._rows)
