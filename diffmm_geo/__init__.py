r"""DiffMM as reusable PyTorch Geometric components."""

__version__ = '0.1.0'

__all__ = ['__version__']
