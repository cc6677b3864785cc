from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.typing import Adj, SparseTensor
from torch_geometric.utils import is_torch_sparse_tensor, scatter

from diffmm_geo.utils.checks import (
    check_bool,
    check_edge_index,
    check_finite,
    check_number,
    check_same_device,
    check_size,
    check_values,
    check_vector,
    describe,
    has_values,
)

from .sparse_matrix import SparseMatrix


@dataclass(frozen=True)
class BipartiteAdj:
    r"""The adjacency of a bipartite user-item graph in the form that
    propagation needs. It holds both directions and the self-loops of the joint
    graph, without building the joint graph.

    .. math::
        \mathbf{x}^{\prime}_u = \sum_{i} \hat{R}_{ui} \mathbf{x}_i +
        \frac{\mathbf{x}_u}{d_u + 1}
        \qquad
        \mathbf{x}^{\prime}_i = \sum_{u} \hat{R}_{ui} \mathbf{x}_u +
        \frac{\mathbf{x}_i}{d_i + 1}
        \qquad
        \hat{R}_{ui} = \frac{R_{ui}}{\sqrt{(d_u + 1)(d_i + 1)}}

    This equals
    :math:`\mathbf{D}^{-1/2} (\mathbf{A} + \mathbf{I}) \mathbf{D}^{-1/2}` of
    the joint adjacency
    :math:`\mathbf{A} = [[\mathbf{0}, \mathbf{R}], [\mathbf{R}^{\top},
    \mathbf{0}]]`.

    Args:
        to_user (Adj or SparseMatrix): Propagates items to users.
        to_item (Adj or SparseMatrix): Propagates users to items.
        weight (torch.Tensor, optional): The edge weights if :obj:`to_user` and
            :obj:`to_item` are :obj:`edge_index` tensors.
            (default: :obj:`None`)
        user_loop (torch.Tensor, optional): The self-loop weights of users.
            (default: :obj:`None`)
        item_loop (torch.Tensor, optional): The self-loop weights of items.
            (default: :obj:`None`)
        user_scale (torch.Tensor, optional): :math:`1 / \sqrt{d_u + 1}`. If
            both scales are given, edge weights must be their products and
            self-loop weights their squares, so that kernels may read the scales
            instead of the weights. (default: :obj:`None`)
        item_scale (torch.Tensor, optional): :math:`1 / \sqrt{d_i + 1}`.
            (default: :obj:`None`)
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
        add_self_loops: bool = True,
        edge_weight: Tensor | None = None,
    ) -> BipartiteAdj:
        r"""Converts any form in which PyG represents a bipartite graph.

        Args:
            adj (Adj): An :obj:`edge_index` (row 0 users, row 1 items), an
                :class:`~torch_geometric.EdgeIndex`, or the *transposed*
                adjacency :obj:`adj_t` of size :obj:`[num_items, num_users]`
                as a :class:`torch_sparse.SparseTensor` or a
                :obj:`torch.sparse` tensor (CSR, CSC or COO) of edge weights.
            size (tuple): The number of users and the number of items.
            normalize (bool, optional): Whether to apply symmetric
                normalization. (default: :obj:`True`)
            dtype (torch.dtype, optional): The type of the weights.
                (default: :obj:`None`)
            prepare (bool, optional): Whether to convert edges to
                :class:`~diffmm_geo.sparse.SparseMatrix`. This pays off if the
                graph is used more than once. (default: :obj:`False`)
            device (torch.device, optional): The required device, if any.
                (default: :obj:`None`)
            name (str, optional): The name of :obj:`adj` in errors.
                (default: :obj:`"edge_index"`)
            add_self_loops (bool, optional): Whether normalization adds
                self-loops first. Without them, weights are
                :math:`R_{ui} / \sqrt{d_u d_i}`. (default: :obj:`True`)
            edge_weight (torch.Tensor, optional): The weights :math:`R_{ui}` of
                an :obj:`edge_index`, :obj:`[E]`. A node whose degree is zero
                gets zeros, as in PyG. (default: :obj:`None`, all are one)

        Raises:
            ValueError: If :obj:`adj` has another form or size, is on another
                device, or has indices out of range, or if weights are not
                finite or make a degree negative.
        """
        dtype = dtype or torch.get_default_dtype()
        size = check_size('size', size)
        check_bool('prepare', prepare)
        check_bool('add_self_loops', add_self_loops)
        user, item, weight = to_coo(adj, size, device, name)
        if edge_weight is not None:
            if weight is not None or isinstance(adj, SparseTensor):
                raise ValueError(
                    f"'edge_weight' needs '{name}' to be an edge_index tensor, "
                    f'as a sparse tensor holds its own (got {describe(adj)})'
                )
            weight = check_vector(
                'edge_weight', edge_weight, user.numel(), user.device
            )
        if weight is not None:
            weighted = name if edge_weight is None else 'edge_weight'
            check_finite(weighted, weight)
            weight = weight.to(dtype)

        user_loop = item_loop = user_scale = item_scale = None
        if normalize:
            extra = 1.0 if add_self_loops else 0.0
            ones = torch.ones(user.numel(), dtype=dtype, device=user.device)
            values = ones if weight is None else weight
            user_degree = scatter(values, user, 0, size[0]) + extra
            item_degree = scatter(values, item, 0, size[1]) + extra
            user_loop = _inverse(user_degree)
            item_loop = _inverse(item_degree)
            if weight is None:
                weight = (user_loop[user] * item_loop[item]).sqrt()
                if add_self_loops:
                    user_scale, item_scale = user_loop.sqrt(), item_loop.sqrt()
            else:
                _check_degree(weighted, user_degree, item_degree)
                # Products of small degrees may vanish.
                weight = user_loop.sqrt()[user] * weight
                weight = weight * item_loop.sqrt()[item]
            if not add_self_loops:
                user_loop = item_loop = None
        loops = user_loop, item_loop

        if isinstance(adj, SparseTensor) and not prepare:
            to_item = adj
            if weight is not None:
                to_item = adj.set_value(weight, layout='coo')
            return cls(to_item.t(), to_item, None, *loops)
        if prepare or is_torch_sparse_tensor(adj):
            to_user = SparseMatrix.from_coo(
                user, item, weight, size, check_invariants=False
            )
            to_item = to_user.t()
            return cls(to_user, to_item, None, *loops, user_scale, item_scale)
        edge_index = torch.stack([user, item])
        return cls(edge_index.flip(0), edge_index, weight, *loops)

    @property
    def device(self) -> torch.device:
        r"""The device."""
        if isinstance(self.to_user, SparseTensor):
            device: torch.device = self.to_user.device()
            return device
        return self.to_user.device

    @property
    def size(self) -> tuple[int, int] | None:
        r"""The number of users and items if the adjacency is prepared."""
        if isinstance(self.to_user, SparseMatrix):
            return self.to_user.size
        return None

    def matrices(self, name: str = 'adj') -> tuple[SparseMatrix, SparseMatrix]:
        r"""Returns :obj:`to_user` and :obj:`to_item` of a prepared adjacency.

        Args:
            name (str, optional): The name of the adjacency in errors.
                (default: :obj:`"adj"`)

        Raises:
            ValueError: If the adjacency is not prepared.
        """
        if not isinstance(self.to_user, SparseMatrix) or not isinstance(
            self.to_item, SparseMatrix
        ):
            raise ValueError(
                f"'{name}' needs a prepared adjacency (got one that was made "
                f"with 'prepare=False')"
            )
        return self.to_user, self.to_item

    def dropout(
        self, keep_rate: float, generator: torch.Generator | None = None
    ) -> BipartiteAdj:
        r"""Drops edges of a prepared adjacency. Each *directed* entry,
        including self-loops, is kept with probability :obj:`keep_rate` and
        divided by :obj:`keep_rate`.

        Args:
            keep_rate (float): The probability of keeping an entry.
            generator (torch.Generator, optional): The random number generator.
                (default: :obj:`None`)

        Raises:
            ValueError: If the adjacency is not prepared, or :obj:`keep_rate`
                is not in :math:`(0, 1]`.
        """
        check_number('keep_rate', keep_rate, 0.0, 1.0, low_open=True)
        if keep_rate == 1.0:
            return self

        def drop(value: Tensor) -> Tensor:
            uniform = torch.rand(
                value.size(), generator=generator, device=value.device
            )
            return value * (uniform < keep_rate) / keep_rate

        matrices = []
        for matrix in self.matrices('dropout'):
            value = matrix.value
            if value is None:
                value = matrix.pattern.ones(torch.get_default_dtype())
            matrices.append(matrix.set_value(drop(value)))
        loops = self.user_loop, self.item_loop
        dropped = [None if loop is None else drop(loop) for loop in loops]
        return BipartiteAdj(matrices[0], matrices[1], None, *dropped)

    def to(
        self,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> BipartiteAdj:
        r"""Moves a prepared adjacency to a device and/or casts its weights."""
        self.matrices('to')
        return BipartiteAdj(
            **{
                name: None if x is None else x.to(device=device, dtype=dtype)
                for name, x in vars(self).items()
            }
        )


def _inverse(degree: Tensor) -> Tensor:
    # Both fills keep gradients finite.
    zero = degree == 0
    return degree.masked_fill(zero, 1.0).reciprocal().masked_fill(zero, 0.0)


def _check_degree(name: str, *degrees: Tensor) -> None:
    for degree in degrees:
        if has_values(degree) and bool((degree < 0).any()):
            raise ValueError(
                f"'{name}' needs weights whose sum at each node, plus one for "
                f'a self-loop, is not negative to normalize the graph (got a '
                f'sum of {float(degree.min()):.4g})'
            )


def to_coo(
    adj: Adj,
    size: tuple[int, int],
    device: torch.device | None = None,
    name: str = 'edge_index',
) -> tuple[Tensor, Tensor, Tensor | None]:
    r"""Returns the users, items and weights of the edges of :obj:`adj`."""
    if isinstance(adj, SparseTensor):
        _check_size(name, tuple(adj.sparse_sizes()), size)
        item, user, weight = adj.coo()
        check_same_device(name, item, device)
        return user, item, weight
    if isinstance(adj, Tensor) and is_torch_sparse_tensor(adj):
        _check_size(name, tuple(adj.size()), size)
        check_same_device(name, adj, device)
        coo = adj if adj.layout == torch.sparse_coo else adj.to_sparse_coo()
        # Uncoalesced tensors do not expose their indices. Duplicates add up.
        coo = coo.coalesce()
        item, user = coo.indices()
        return user, item, coo.values()
    if isinstance(adj, Tensor):
        user, item = check_values(
            name, check_edge_index(name, adj, *size, device)
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
            f"'{name}' is an 'adj_t', which needs to be of size [num_items, "
            f'num_users] = {[size[1], size[0]]} (got {list(got)})'
        )
