from __future__ import annotations

from pathlib import Path
from typing import Any

from diffmm_geo.training.loggers.logger import Logger, flatten_record
from diffmm_geo.training.trainer import Record
from diffmm_geo.utils.paths import check_path


class TensorBoardLogger(Logger):
    r"""Writes scalars such as :obj:`loss/bpr`, :obj:`val/recall@20` and
    :obj:`seconds/generate` by epoch, with
    :class:`torch.utils.tensorboard.SummaryWriter`.
    If a run is resumed, TensorBoard drops the old scalars of the epochs that
    are logged again, and of later epochs.

    .. code-block:: python

        with TensorBoardLogger('runs/tensorboard') as logger:
            trainer.fit(callback=logger)

    Args:
        folder (str or Path): The folder of the files, created if missing.

    Raises:
        ImportError: If the extra :obj:`tensorboard` is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError(
                'TensorBoardLogger needs the package tensorboard: '
                "pip install 'diffmm_geo[tensorboard]'"
            ) from error
        self.folder = str(check_path('folder', folder))
        self._open: Any = SummaryWriter
        self._writer: Any = None
        self._epoch = 0

    def __call__(self, record: Record) -> None:
        epoch = int(record['epoch'])
        if epoch <= self._epoch:
            self.close()
        if self._writer is None:
            self._writer = self._open(self.folder, purge_step=epoch)
        for tag, value in flatten_record(record, '/').items():
            self._writer.add_scalar(tag, value, epoch)
        self._writer.flush()
        self._epoch = epoch

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
