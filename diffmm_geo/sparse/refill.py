from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any

from torch import Tensor
from torch_geometric import EdgeIndex

from .csr import CSR
from .sparse_matrix import SparseMatrix

Pair = tuple[Tensor, Tensor]


class _Differs(Exception):
    pass


def refill(old: Any, new: Any) -> bool:
    r"""Copies graphs into the tensors of others, whatever these have derived
    from theirs included, so that a recorded step which reads the old ones reads
    the new ones. Returns whether all shapes and types fit; if not, it changes
    nothing.

    Args:
        old: A dictionary of :class:`~diffmm_geo.sparse.BipartiteAdj`, or one of
            its parts.
        new: Another.
    """
    try:
        pairs = list(_pairs(old, new))
    except _Differs:
        return False
    for target, source in pairs:
        target.copy_(source)
    return True


def _pairs(old: Any, new: Any) -> Iterator[Pair]:
    if old is new:
        return
    if type(old) is not type(new) or isinstance(old, EdgeIndex):
        raise _Differs
    if isinstance(old, Tensor):
        if old.size() != new.size() or old.dtype != new.dtype:
            raise _Differs
        yield old, new
    elif isinstance(old, dict):
        if old.keys() != new.keys():
            raise _Differs
        for key in old:
            yield from _pairs(old[key], new[key])
    elif isinstance(old, CSR):
        if (old.size, old.nnz) != (new.size, new.nnz):
            raise _Differs
        yield from _pairs(old.parts_like(old), new.parts_like(old))
    elif isinstance(old, tuple):
        if len(old) != len(new):
            raise _Differs
        for one, other in zip(old, new):
            yield from _pairs(one, other)
    elif isinstance(old, SparseMatrix):
        for name in ('pattern', 'value', 'pattern_t', 'perm', 'value_t'):
            yield from _pairs(getattr(old, name), getattr(new, name))
    elif is_dataclass(old):
        yield from _pairs(vars(old), vars(new))
    elif old != new:
        raise _Differs
