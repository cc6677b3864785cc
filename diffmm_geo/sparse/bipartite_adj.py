from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.typing import Adj, SparseTensor
from torch_geometric.utils import is_torch_sparse_tensor, scatter

from diffmm_geo.utils.checks import (
    check_bool,
    check_edge_index,
    check_number,
    check_same_device,
    check_size,
    check_values,
    describe,
)

from .sparse_matrix import SparseMatrix


@dataclass(frozen=True)
class BipartiteAdj:
    r"""The adjacency of a bipartite user-item graph as one propagation step
    needs it: both directions, and the self-loops of the joint graph, which is
    never built.

    .. math::
        \mathbf{x}^{\prime}_u = \sum_{i} \hat{R}_{ui} \mathbf{x}_i +
        \frac{\mathbf{x}_u}{d_u + 1}
        \qquad
        \mathbf{x}^{\prime}_i = \sum_{u} \hat{R}_{ui} \mathbf{x}_u +
        \frac{\mathbf{x}_i}{d_i + 1}
        \qquad
        \hat{R}_{ui} = \frac{R_{ui}}{\sqrt{(d_u + 1)(d_i + 1)}}

    (:math:`\mathbf{D}^{-1/2} (\mathbf{A} + \mathbf{I}) \mathbf{D}^{-1/2}` of
    the joint adjacency
    :math:`\mathbf{A} = [[\mathbf{0}, \mathbf{R}], [\mathbf{R}^{\top},
    \mathbf{0}]]`).

    Args:
        to_user (Adj or SparseMatrix): What carries items to users.
        to_item (Adj or SparseMatrix): What carries users to items.
        weight (torch.Tensor, optional): The edge weights, if the two above
            are :obj:`edge_index` tensors. (default: :obj:`None`)
        user_loop (torch.Tensor, optional): The self-loop weights of users.
            (default: :obj:`None`)
        item_loop (torch.Tensor, optional): The self-loop weights of items.
            (default: :obj:`None`)
        user_scale (torch.Tensor, optional): :math:`1 / \sqrt{d_u + 1}`, if
            the values of the two prepared matrices are products of it and
            :obj:`item_scale`, and self-loops its squares: a kernel may then
            read it instead. (default: :obj:`None`)
        item_scale (torch.Tensor, optional): :math:`1 / \sqrt{d_i + 1}`,
            likewise. (default: :obj:`None`)
    """

    to_user: Adj | SparseMatrix
    to_item: Adj | SparseMatrix
    weight: Tensor | None = None
    user_loop: Tensor | None = None
    item_loop: Tensor | None = None
    user_scale: Tensor | None = None
    item_scale: Tensor | None = None

    @classmethod
    def from_adj(
        cls,
        adj: Adj,
        size: tuple[int, int],
        normalize: bool = True,
        dtype: torch.dtype | None = None,
        prepare: bool = False,
        device: torch.device | None = None,
        name: str = 'edge_index',
    ) -> BipartiteAdj:
        r"""Reads any form in which PyG passes a bipartite graph.

        Args:
            adj (Adj): An :obj:`edge_index` (row 0 users, row 1 items), an
                :class:`~torch_geometric.EdgeIndex`, or the *transposed*
                adjacency :obj:`adj_t` of size :obj:`[num_items, num_users]`
                as a :class:`torch_sparse.SparseTensor` or a
                :obj:`torch.sparse` tensor (CSR, CSC or COO), whose values
                are edge weights.
            size (tuple): The number of users and the number of items.
            normalize (bool, optional): Whether to add self-loops and to
                normalise symmetrically; without, weights are taken as they
                are. (default: :obj:`True`)
            dtype (torch.dtype, optional): The type of the weights.
                (default: :obj:`None`)
            prepare (bool, optional): Whether to sort the edges into
                :class:`~diffmm_geo.sparse.SparseMatrix` form, which pays where
                a graph is used more than once. (default: :obj:`False`)
            device (torch.device, optional): The device that it has to be on.
                (default: :obj:`None`, any)
            name (str, optional): What it is called in errors.
                (default: :obj:`"edge_index"`)

        Raises:
            ValueError: If :obj:`adj` is of none of these forms, of another
                size or on another device, or has indices out of range.
        """
        dtype = dtype or torch.get_default_dtype()
        size = check_size('size', size)
        check_bool('prepare', prepare)
        user, item, weight = to_coo(adj, size, device, name)
        weight = None if weight is None else weight.to(dtype)

        user_loop = item_loop = user_scale = item_scale = None
        if normalize:
            unweighted = weight is None
            if weight is None:
                weight = torch.ones(
                    user.numel(), dtype=dtype, device=user.device
                )
            user_loop = 1.0 / (scatter(weight, user, 0, size[0]) + 1.0)
            item_loop = 1.0 / (scatter(weight, item, 0, size[1]) + 1.0)
            weight = (user_loop[user] * item_loop[item]).sqrt() * weight
            if unweighted:
                user_scale, item_scale = user_loop.sqrt(), item_loop.sqrt()

        if isinstance(adj, SparseTensor) and not prepare:
            to_item = adj
            if weight is not None:
                to_item = adj.set_value(weight, layout='coo')
            return cls(to_item.t(), to_item, None, user_loop, item_loop)
        if prepare or is_torch_sparse_tensor(adj):
            to_user = SparseMatrix.from_coo(
                user, item, weight, size, check_invariants=False
            )
            return cls(
                to_user,
                to_user.t(),
                None,
                user_loop,
                item_loop,
                user_scale,
                item_scale,
            )
        return cls(
            torch.stack([item, user]),
            torch.stack([user, item]),
            weight,
            user_loop,
            item_loop,
        )

    @property
    def device(self) -> torch.device:
        r"""The device that it is on."""
        if isinstance(self.to_user, SparseTensor):
            device: torch.device = self.to_user.device()
            return device
        return self.to_user.device

    @property
    def size(self) -> tuple[int, int] | None:
        r"""The number of users and items, where the form knows it."""
        if isinstance(self.to_user, SparseMatrix):
            return self.to_user.size
        return None

    def dropout(
        self,
        keep_rate: float,
        generator: torch.Generator | None = None,
    ) -> BipartiteAdj:
        r"""Edge dropout: keeps every *directed* entry, self-loops included,
        with probability :obj:`keep_rate`, and divides what is left by it.
        Needs a prepared adjacency.

        Args:
            keep_rate (float): The probability to keep an entry.
            generator (torch.Generator, optional): The random numbers.
                (default: :obj:`None`)
        """
        check_number('keep_rate', keep_rate, 0.0, 1.0, low_open=True)
        if keep_rate == 1.0:
            return self
        if not isinstance(self.to_user, SparseMatrix) or not isinstance(
            self.to_item, SparseMatrix
        ):
            raise ValueError(
                "'dropout' needs a prepared adjacency (got one "
                "that was made with 'prepare=False')"
            )

        def drop_entries(matrix: SparseMatrix) -> SparseMatrix:
            value = matrix.value
            if value is None:
                dtype = torch.get_default_dtype()
                value = matrix.pattern.ones(dtype)
            return matrix.set_value(drop(value))

        def drop(value: Tensor) -> Tensor:
            keep = (
                torch.rand(
                    value.size(), generator=generator, device=value.device
                )
                < keep_rate
            )
            return value * keep / keep_rate

        return BipartiteAdj(
            to_user=drop_entries(self.to_user),
            to_item=drop_entries(self.to_item),
            user_loop=None if self.user_loop is None else drop(self.user_loop),
            item_loop=None if self.item_loop is None else drop(self.item_loop),
        )

    def to(
        self,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> BipartiteAdj:
        r"""Moves to a device and/or casts the weights of a prepared
        adjacency.
        """

        def move(value: Tensor | None) -> Tensor | None:
            if value is None:
                return None
            return value.to(device=device, dtype=dtype)

        assert isinstance(self.to_user, SparseMatrix)
        assert isinstance(self.to_item, SparseMatrix)
        return BipartiteAdj(
            self.to_user.to(device, dtype),
            self.to_item.to(device, dtype),
            None,
            move(self.user_loop),
            move(self.item_loop),
            move(self.user_scale),
            move(self.item_scale),
        )


def to_coo(
    adj: Adj,
    size: tuple[int, int],
    device: torch.device | None = None,
    name: str = 'edge_index',
) -> tuple[Tensor, Tensor, Tensor | None]:
    r"""Users, items and weights of the edges of :obj:`adj`."""
    if isinstance(adj, SparseTensor):
        _check_size(name, tuple(adj.sparse_sizes()), size)
        item, user, weight = adj.coo()
        check_same_device(name, item, device)
        return user, item, weight
    if isinstance(adj, Tensor) and is_torch_sparse_tensor(adj):
        _check_size(name, tuple(adj.size()), size)
        check_same_device(name, adj, device)
        coo = adj if adj.layout == torch.sparse_coo else adj.to_sparse_coo()
        # An uncoalesced tensor has no public indices; duplicates add up.
        coo = coo.coalesce()
        item, user = coo.indices()
        return user, item, coo.values()
    if isinstance(adj, Tensor):
        # `as_tensor()` leaves the cached forms of an `EdgeIndex` behind.
        plain = adj.as_tensor() if hasattr(adj, 'as_tensor') else adj
        user, item = check_values(
            name, check_edge_index(name, plain, *size, device)
        )
        return user, item, None
    raise ValueError(
        f"'{name}' needs to be an edge_index tensor, an "
        f'EdgeIndex, a SparseTensor or a torch.sparse tensor '
        f'(got {describe(adj)})'
    )


def _check_size(name: str, got: tuple[int, ...], size: tuple[int, int]) -> None:
    if got != (size[1], size[0]):
        raise ValueError(
            f"'{name}' needs, being an 'adj_t', to be of size [num_items, "
            f'num_users] = {[size[1], size[0]]} '
            f'(got {list(got)})'
        )
