from __future__ import annotations

from abc import ABC, abstractmethod

from diffmm_geo.training.trainer import Record


class Logger(ABC):
    r"""Base class of callbacks of
    :meth:`Trainer.fit <diffmm_geo.training.Trainer.fit>` that write the record
    of each epoch. A logger is also a context manager, which closes the logger
    at the end.
    """

    @abstractmethod
    def __call__(self, record: Record) -> None:
        r"""Writes the record of an epoch. The record replaces earlier records
        of this epoch and of later epochs, which a resumed run repeats.
        """

    def close(self) -> None:  # noqa: B027 (there may be nothing to close)
        r"""Writes pending records and closes files. A later record reopens
        them.
        """

    def __enter__(self) -> Logger:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def flatten_record(record: Record, separator: str) -> dict[str, float]:
    r"""The values of a record by group and name, *e.g.*,
    :obj:`"val.recall@20"` and :obj:`"generated.image.recall"`.
    """
    out = {}
    for group, values in record.items():
        if isinstance(values, dict):
            inner = {**values, **flatten_record(values, separator)}
            for name, value in inner.items():
                if not isinstance(value, dict):
                    out[f'{group}{separator}{name}'] = float(value)
    return out
