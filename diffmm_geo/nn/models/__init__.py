r"""Whole models."""

from .diffmm import DiffMM

__all__ = ['DiffMM']
