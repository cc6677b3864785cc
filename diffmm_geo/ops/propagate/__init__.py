r"""One step of propagation over a user-item graph, both ways at once."""

from .naive import propagate_naive
from .propagate import propagate

__all__ = ['propagate', 'propagate_naive']
