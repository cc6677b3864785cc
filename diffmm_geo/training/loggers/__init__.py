r"""Callbacks of :meth:`Trainer.fit <diffmm_geo.training.Trainer.fit>` that
write the record of each epoch.
"""

from .csv_logger import CSVLogger
from .logger import Logger
from .tensorboard_logger import TensorBoardLogger

__all__ = ['CSVLogger', 'Logger', 'TensorBoardLogger']
