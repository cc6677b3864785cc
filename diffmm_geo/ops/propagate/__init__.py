r"""One propagation step over a user-item graph, in both directions."""

from .naive import propagate_naive
from .propagate import propagate, propagate_prepared

__all__ = ['propagate', 'propagate_naive', 'propagate_prepared']
