from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch_geometric.typing import Adj, EdgeType

from diffmm_geo.nn.conv.bipartite_lg_conv import BipartiteLGConv
from diffmm_geo.ops.dense import unit_rows
from diffmm_geo.sparse import BipartiteAdj
from diffmm_geo.utils.checks import (
    check_edge_type,
    check_finite,
    check_keys,
    check_matrix,
    check_modalities,
    check_number,
)


class MultiModalLightGCNConv(BipartiteLGConv):
    r"""The multi-modal graph aggregation of the `"DiffMM: Multi-Modal
    Diffusion Model for Recommendation" <https://arxiv.org/abs/2406.11781>`_
    paper (Section 3.3)

    .. math::
        \mathbf{P}_m &= \mathbf{\hat{A}} \, [\mathbf{E}_u;
        \mathbf{\bar{F}}_m]

        \mathbf{Q}_m &= \mathbf{\hat{A}} \, [\mathbf{P}_{m,u}; \mathbf{E}_i]

        \mathbf{G}_m &= \mathbf{\hat{A}}_m \, [\mathbf{E}_u; \mathbf{E}_i]

        \mathbf{H} &= \sum_{m=1}^{M} {\mathrm{softmax}(\mathbf{w})}_m \left(
        \mathbf{P}_m + \mathbf{Q}_m + \lambda \, \mathbf{G}_m \right)

    with ID embeddings :math:`\mathbf{E}_u, \mathbf{E}_i`, row-normalized
    modality features :math:`\mathbf{\bar{F}}_m`, and the symmetrically
    normalized observed graph :math:`\mathbf{\hat{A}}` and generated graphs
    :math:`\mathbf{\hat{A}}_m`, with self-loops.

    Propagation is linear, so the layer sums over modalities first. With
    :math:`\mathbf{\bar{F}} = \sum_m {\mathrm{softmax}(\mathbf{w})}_m
    \mathbf{\bar{F}}_m` and :math:`\mathbf{P} = \mathbf{\hat{A}} \,
    [\mathbf{E}_u; \mathbf{\bar{F}}]`, the first two terms are
    :math:`\mathbf{\hat{A}} \, [\mathbf{E}_u + \mathbf{P}_u; \mathbf{\bar{F}} +
    \mathbf{E}_i]`. The layer thus takes three sparse products for any number of
    modalities.

    Args:
        modalities (list[str]): The names of the modalities.
        generated_weight (float, optional): The weight :math:`\lambda` of the
            generated graphs. (default: :obj:`0.2`)
        edge_type (tuple[str, str, str], optional): The edge type of observed
            interactions. Generated interactions of modality :obj:`m` have the
            edge type :obj:`(user, f'denoised_{m}', item)`.
            (default: :obj:`('user', 'interacts', 'item')`)
        normalize (bool, optional): Whether to add self-loops and normalize
            symmetrically. (default: :obj:`True`)
        **kwargs (optional): Additional arguments of
            :class:`torch_geometric.nn.conv.MessagePassing`.

    Shapes:
        - **x_dict:** ID embeddings :math:`(*, |\mathcal{U}|, F)` of users and
          :math:`(*, |\mathcal{I}|, F)` of items
        - **edge_index_dict:** :math:`(2, |\mathcal{E}|)` for every edge type
          (row 0 users, row 1 items), or any other :obj:`Adj` form; generated
          edge types are optional
        - **modality_dict:** projected features :math:`(*, |\mathcal{I}|, F)`
          of every modality, not normalized
        - **output:** the shapes of **x_dict**

    Raises:
        ValueError: If an entry is missing, out of range or of the wrong
            shape, or features are not finite.

    Example:
        >>> import torch
        >>> from diffmm_geo.nn import MultiModalLightGCNConv
        >>> conv = MultiModalLightGCNConv(['image', 'text'])
        >>> x_dict = {'user': torch.randn(4, 8), 'item': torch.randn(5, 8)}
        >>> edge_index_dict = {
        ...     ('user', 'interacts', 'item'): torch.tensor([[0, 1], [2, 3]]),
        ...     ('user', 'denoised_text', 'item'): torch.tensor([[0], [4]]),
        ... }
        >>> features = {'image': torch.randn(5, 8), 'text': torch.randn(5, 8)}
        >>> out = conv(x_dict, edge_index_dict, features)
        >>> out['user'].size(), out['item'].size()
        (torch.Size([4, 8]), torch.Size([5, 8]))
    """

    def __init__(
        self,
        modalities: Sequence[str],
        generated_weight: float = 0.2,
        edge_type: EdgeType = ('user', 'interacts', 'item'),
        normalize: bool = True,
        **kwargs: Any,
    ) -> None:
        modalities = check_modalities(modalities)
        edge_type = check_edge_type(edge_type)
        check_number('generated_weight', generated_weight)
        super().__init__(normalize, **kwargs)
        self.modalities = modalities
        self.generated_weight = float(generated_weight)
        self.edge_type = edge_type
        #: The observed edge type, then the generated edge types.
        self.edge_types: list[EdgeType] = [
            edge_type,
            *(self.generated_edge_type(m) for m in modalities),
        ]
        self.modality_weight = Parameter(torch.empty(len(modalities)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters of the module."""
        super().reset_parameters()
        torch.nn.init.constant_(self.modality_weight, 1 / len(self.modalities))

    def generated_edge_type(self, modality: str) -> tuple[str, str, str]:
        r"""The edge type of a modality's generated interactions."""
        return (self.edge_type[0], f'denoised_{modality}', self.edge_type[2])

    def adjacency_dict(
        self,
        edge_index_dict: Mapping[EdgeType, Adj | BipartiteAdj],
        size: tuple[int, int],
        dtype: torch.dtype | None = None,
        prepare: bool = False,
        device: torch.device | None = None,
    ) -> dict[EdgeType, BipartiteAdj]:
        r"""Normalizes all graphs (and sorts them, if :obj:`prepare=True`).
        Pass the result as :obj:`edge_index_dict` to reuse it.
        """
        check_keys('edge_index_dict', edge_index_dict, [self.edge_type])
        return {
            edge_type: self.adjacency(
                edge_index_dict[edge_type],
                size,
                dtype,
                prepare,
                device,
                f'edge_index_dict[{edge_type}]',
            )
            for edge_type in self.edge_types
            if edge_type in edge_index_dict
        }

    def forward(  # type: ignore[override]
        self,
        x_dict: Mapping[str, Tensor],
        edge_index_dict: Mapping[EdgeType, Adj | BipartiteAdj],
        modality_dict: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        user, _, item = self.edge_type
        check_keys('x_dict', x_dict, [user, item])
        check_keys('modality_dict', modality_dict, self.modalities)
        weight = self.modality_weight
        x_user, x_item = x_dict[user], x_dict[item]
        named = {f"x_dict['{user}']": x_user, f"x_dict['{item}']": x_item}
        for name, x in named.items():
            check_matrix(name, x, finite=False, leading=True, like=weight)
        for m in self.modalities:
            name = f"modality_dict['{m}']"
            x = check_matrix(name, modality_dict[m], leading=True, like=weight)
            check_finite(name, x)
            named[name] = x
        for name, x in named.items():
            rows = (x_user if x is x_user else x_item).size(-2)
            expected = [*x_user.size()[:-2], rows, x_user.size(-1)]
            if list(x.size()) != expected:
                raise ValueError(
                    f"'{name}' needs to be of shape {expected} to fit "
                    f"x_dict['{user}'] (got {list(x.size())})"
                )

        size = (x_user.size(-2), x_item.size(-2))
        adj_dict = self.adjacency_dict(
            edge_index_dict, size, x_user.dtype, device=weight.device
        )
        feature = unit_rows(
            torch.stack([modality_dict[m] for m in self.modalities])
        )
        out_user, out_item = self.aggregate_modalities(
            adj_dict, x_user, x_item, feature
        )
        return {user: out_user, item: out_item}

    def aggregate_modalities(
        self,
        adj_dict: Mapping[EdgeType, BipartiteAdj],
        x_user: Tensor,
        x_item: Tensor,
        features: Tensor,
    ) -> tuple[Tensor, Tensor]:
        r"""Computes the layer from the normalized features of all modalities,
        :math:`(M, *, |\mathcal{I}|, F)`, without checks.
        """
        adj = adj_dict[self.edge_type]
        weight = self.modality_weight.softmax(dim=0)
        feature = (weight @ features.flatten(1)).view(features.size()[1:])

        # P + Q = A [E_u; F] + A [P_u; E_i] takes one step once P_u is known.
        p_user = self.to_user(adj, x_user, feature)
        out_user, out_item = self.step(adj, x_user + p_user, feature + x_item)

        scales = (self.generated_weight * weight).unbind()
        for scale, edge_type in zip(scales, self.edge_types[1:]):
            generated = adj_dict.get(edge_type)
            if generated is None:
                continue
            g_user, g_item = self.step(generated, x_user, x_item)
            out_user = torch.addcmul(out_user, g_user, scale)
            out_item = torch.addcmul(out_item, g_item, scale)
        return out_user, out_item

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.modalities}, '
            f'generated_weight={self.generated_weight}, '
            f'edge_type={self.edge_type})'
        )
