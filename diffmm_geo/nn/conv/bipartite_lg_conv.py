from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn.conv import MessagePassing
from torch_geometric.typing import Adj, OptTensor
from torch_geometric.utils import spmm as pyg_spmm

from diffmm_geo.ops.propagate import propagate_prepared
from diffmm_geo.ops.spmm import spmm_prepared
from diffmm_geo.sparse import BipartiteAdj, SparseMatrix
from diffmm_geo.utils.checks import (
    check_bool,
    check_equal,
    check_matrix,
    check_same_device,
    describe,
)


class BipartiteLGConv(MessagePassing):
    r"""A light graph convolution on a bipartite graph with self-loops, equal
    to :class:`~torch_geometric.nn.conv.LGConv` on the joint graph of users and
    items

    .. math::
        \mathbf{x}^{\prime}_u = \sum_{i \in \mathcal{N}(u)}
        \frac{\mathbf{x}_i}{\sqrt{(d_u + 1)(d_i + 1)}} +
        \frac{\mathbf{x}_u}{d_u + 1}
        \qquad
        \mathbf{x}^{\prime}_i = \sum_{u \in \mathcal{N}(i)}
        \frac{\mathbf{x}_u}{\sqrt{(d_u + 1)(d_i + 1)}} +
        \frac{\mathbf{x}_i}{d_i + 1}.

    Args:
        normalize (bool, optional): Whether to normalize symmetrically.
            (default: :obj:`True`)
        add_self_loops (bool, optional): Whether normalization adds self-loops
            first. (default: :obj:`True`)
        **kwargs (optional): Additional arguments of
            :class:`torch_geometric.nn.conv.MessagePassing`. Of :obj:`aggr`,
            :obj:`flow` and :obj:`node_dim`, only the defaults have a meaning.

    Raises:
        ValueError: If an argument is invalid, or one of
            :class:`~torch_geometric.nn.conv.MessagePassing` has no meaning.

    Shapes:
        - **x_user:** :math:`(*, |\mathcal{U}|, F)`,
          **x_item:** :math:`(*, |\mathcal{I}|, F)`
        - **edge_index:** :math:`(2, |\mathcal{E}|)` (row 0 users, row 1
          items), any other :obj:`Adj` form, or a
          :class:`~diffmm_geo.sparse.BipartiteAdj`
        - **edge_weight** *(optional)*: :math:`(|\mathcal{E}|)`, the weights
          of the edges of an :obj:`edge_index`
        - **output:** the shapes of :obj:`x_user` and :obj:`x_item`

    Example:
        >>> import torch
        >>> from diffmm_geo.nn import BipartiteLGConv
        >>> edge_index = torch.tensor([[0, 0, 1], [0, 1, 2]])
        >>> conv = BipartiteLGConv()
        >>> x_user, x_item = torch.randn(2, 8), torch.randn(3, 8)
        >>> x_user, x_item = conv((x_user, x_item), edge_index)
        >>> x_user.size(), x_item.size()
        (torch.Size([2, 8]), torch.Size([3, 8]))
    """

    def __init__(
        self,
        normalize: bool = True,
        add_self_loops: bool = True,
        **kwargs: Any,
    ) -> None:
        reason = 'the layer sums over neighbors in both directions'
        if kwargs.setdefault('aggr', 'add') != 'sum':
            check_equal('aggr', kwargs['aggr'], 'add', reason)
        flow = kwargs.get('flow', 'source_to_target')
        check_equal('flow', flow, 'source_to_target', reason)
        reason = 'features are [*, num_nodes, num_channels]'
        check_equal('node_dim', kwargs.get('node_dim', -2), -2, reason)
        super().__init__(**kwargs)
        self.normalize = check_bool('normalize', normalize)
        self.add_self_loops = check_bool('add_self_loops', add_self_loops)

    def adjacency(
        self,
        edge_index: Adj | BipartiteAdj,
        size: tuple[int, int],
        dtype: torch.dtype | None = None,
        prepare: bool = False,
        device: torch.device | None = None,
        name: str = 'edge_index',
        edge_weight: OptTensor = None,
    ) -> BipartiteAdj:
        r"""Normalizes a graph (and sorts it, if :obj:`prepare=True`). Pass
        the result as :obj:`edge_index` to reuse it.
        """
        if isinstance(edge_index, BipartiteAdj):
            adj = edge_index
            if edge_weight is not None:
                raise ValueError(
                    f"'edge_weight' needs '{name}' to be an edge_index tensor, "
                    f'as a normalized graph holds its own (got a BipartiteAdj)'
                )
            check_same_device(name, adj, device)
            if adj.size is not None and adj.size != size:
                raise ValueError(
                    f"'{name}' needs to be a graph of {size[0]} users and "
                    f'{size[1]} items (got {adj.size})'
                )
        else:
            adj = BipartiteAdj.from_adj(
                edge_index,
                size,
                self.normalize,
                dtype,
                prepare,
                device,
                name,
                self.add_self_loops,
                edge_weight,
            )
        if self.explain and not isinstance(adj.to_user, Tensor):
            raise ValueError(
                f"'{name}' needs to be an edge_index tensor to explain the "
                f'layer, as the messages of others have no order (got '
                f'{describe(edge_index)})'
            )
        return adj

    def step(
        self, adj: BipartiteAdj, x_user: Tensor, x_item: Tensor
    ) -> tuple[Tensor, Tensor]:
        r"""One propagation step over a normalized adjacency, without checks of
        features.
        """
        if (
            isinstance(adj.to_user, SparseMatrix)
            and x_user.size(-1) == x_item.size(-1)
            and x_user.dtype == x_item.dtype
        ):
            return propagate_prepared(adj, x_user, x_item)
        return (
            self.to_user(adj, x_user, x_item),
            self.to_item(adj, x_user, x_item),
        )

    def power_sum(
        self, adj: BipartiteAdj, x_user: Tensor, x_item: Tensor, num_steps: int
    ) -> tuple[Tensor, Tensor]:
        r"""The sum :math:`\sum_{l=0}^{L} \mathbf{\hat{A}}^l \mathbf{X}`."""
        out_user, out_item = x_user, x_item
        for _ in range(num_steps):
            x_user, x_item = self.step(adj, x_user, x_item)
            out_user, out_item = out_user + x_user, out_item + x_item
        return out_user, out_item

    def to_user(
        self, adj: BipartiteAdj, x_user: Tensor, x_item: Tensor
    ) -> Tensor:
        r"""The user output of :meth:`step`."""
        return self._aggregate(
            adj.to_user, adj.weight, x_item, x_user, adj.user_loop
        )

    def to_item(
        self, adj: BipartiteAdj, x_user: Tensor, x_item: Tensor
    ) -> Tensor:
        r"""The item output of :meth:`step`."""
        return self._aggregate(
            adj.to_item, adj.weight, x_user, x_item, adj.item_loop
        )

    def _aggregate(
        self,
        matrix: Adj | SparseMatrix,
        weight: OptTensor,
        x_src: Tensor,
        x_dst: Tensor,
        loop: OptTensor,
    ) -> Tensor:
        if isinstance(matrix, SparseMatrix):
            out = spmm_prepared(matrix, x_src)
        else:
            # propagate_type: (x: Tensor, edge_weight: OptTensor)
            out = self.propagate(
                matrix,
                x=x_src,
                edge_weight=weight,
                size=(x_src.size(self.node_dim), x_dst.size(self.node_dim)),
            )
        if loop is not None:
            weight = loop.to(x_dst.dtype).view(-1, 1)
            out = torch.addcmul(out, weight, x_dst)
        return out

    def forward(
        self,
        x: tuple[Tensor, Tensor],
        edge_index: Adj | BipartiteAdj,
        edge_weight: OptTensor = None,
    ) -> tuple[Tensor, Tensor]:
        if not isinstance(x, (tuple, list)) or len(x) != 2:
            raise ValueError(
                f"'x' needs to be a pair (x_user, x_item) (got {describe(x)})"
            )
        x_user = check_matrix('x_user', x[0], finite=False, leading=True)
        channels = x_user.size(-1)
        x_item = check_matrix(
            'x_item', x[1], None, channels, leading=True, like=x_user
        )
        if x_user.size()[:-2] != x_item.size()[:-2]:
            raise ValueError(
                f"'x_user' and 'x_item' need the same leading dimensions "
                f'(got {list(x_user.size())} and {list(x_item.size())})'
            )
        size = (x_user.size(-2), x_item.size(-2))
        adj = self.adjacency(
            edge_index,
            size,
            x_user.dtype,
            device=x_user.device,
            edge_weight=edge_weight,
        )
        return self.step(adj, x_user, x_item)

    def message(self, x_j: Tensor, edge_weight: OptTensor) -> Tensor:
        return x_j if edge_weight is None else edge_weight.view(-1, 1) * x_j

    def message_and_aggregate(self, adj_t: Adj, x: Tensor) -> Tensor:
        # torch-sparse multiplies matrices only.
        flat = x.movedim(self.node_dim, 0)
        out: Tensor = pyg_spmm(adj_t, flat.flatten(1), self.aggr)
        out = out.view(out.size(0), *flat.size()[1:])
        return out.movedim(0, self.node_dim)
