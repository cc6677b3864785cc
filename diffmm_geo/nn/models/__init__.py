r"""Models."""

from .diffmm import DiffMM

__all__ = ['DiffMM']
