r"""Models."""

from .diffmm import DiffMM
from .mf import MF
from .vbpr import VBPR

__all__ = ['MF', 'VBPR', 'DiffMM']
