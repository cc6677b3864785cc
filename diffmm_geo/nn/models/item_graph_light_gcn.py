from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import Embedding, Linear, ModuleDict
from torch_geometric.typing import Adj, EdgeType

from diffmm_geo.nn.conv import BipartiteLGConv
from diffmm_geo.nn.loss import CrossModalContrastiveLoss
from diffmm_geo.nn.loss.bpr_loss import bpr_loss
from diffmm_geo.nn.loss.sampled_softmax_loss import sampled_softmax_loss
from diffmm_geo.nn.modality_name import module_name
from diffmm_geo.nn.models.feature_scaler import FeatureScaler
from diffmm_geo.nn.models.new_items import NewItemsMixin
from diffmm_geo.nn.models.projection import ModalityProjection
from diffmm_geo.nn.models.recommend import RecommendMixin
from diffmm_geo.nn.pretrained_with_graphs import PretrainedWithGraphs
from diffmm_geo.ops.info_nce import Nodes
from diffmm_geo.sparse import BipartiteAdj
from diffmm_geo.utils.checks import (
    check_choice,
    check_edge_index,
    check_edge_type,
    check_index,
    check_int,
    check_keys,
    check_number,
    check_triples,
)

EdgeIndexDict = Mapping[EdgeType, Adj | BipartiteAdj]
Embeddings = dict[str, Tensor]  # By node type.

#: The objectives of :meth:`ItemGraphLightGCN.loss`.
OBJECTIVES = ('bpr', 'softmax')


class ItemGraphLightGCN(NewItemsMixin, RecommendMixin, PretrainedWithGraphs):
    r"""LightGCN with a branch that passes ID embeddings between similar items.
    The first part is the LightGCN of the `"LightGCN: Simplifying and Powering
    Graph Convolution Network for Recommendation"
    <https://arxiv.org/abs/2002.02126>`_ paper

    .. math::
        \mathbf{Z} = \frac{1}{L + 1} \sum_{l=0}^{L} \mathbf{\hat{A}}^l \,
        [\mathbf{E}_u; \mathbf{E}_i].

    The branch gates the ID embeddings of items by the features of each
    modality, as in the `"Multi-View Graph Convolutional Network for Multimedia
    Recommendation" <https://arxiv.org/abs/2308.03588>`_ paper. It propagates
    them over the graph :math:`\mathbf{\hat{S}}_m` of similar items, and sends
    them to users

    .. math::
        \mathbf{H}_i &= \frac{1}{M} \sum_{m=1}^{M} \mathbf{\hat{S}}_m \left(
        \mathbf{E}_i \odot \sigma(\mathbf{F}_m \mathbf{W}_m + \mathbf{b}_m)
        \right)

        \mathbf{H}_u &= \mathbf{\hat{R}} \, \mathbf{H}_i

    with the projected features :math:`\mathbf{F}_m`. All graphs are normalized
    symmetrically, without self-loops. The score of an item for a user is the
    product of their rows in :math:`\mathbf{Z} + \mathbf{H}`.

    :meth:`fit_features` takes the mean and the scale that standardize features.
    They are saved with the weights. Items without interactions receive the ID
    embeddings of similar items in :math:`\mathbf{H}_i`.

    Args:
        num_users (int): The number of users.
        num_items (int): The number of items.
        modality_channels (dict[str, int]): The number of raw channels of each
            modality.
        embedding_dim (int, optional): The embedding size :math:`d`.
            (default: :obj:`64`)
        num_layers (int, optional): The number :math:`L` of propagation steps.
            (default: :obj:`4`)
        edge_type (tuple[str, str, str], optional): The edge type of observed
            interactions. The graph of modality :math:`m` has the edge type
            :obj:`(item, f'similar_{m}', item)`.
            (default: :obj:`('user', 'interacts', 'item')`)

    Shapes:
        - **feature_dict:** raw features :math:`(|\mathcal{I}|, C_m)` of every
          modality
        - **edge_index_dict:** :math:`(2, |\mathcal{E}|)` for every edge type
          (row 0 users, row 1 items; in the graph of a modality, row 0
          neighbors, row 1 items), or any other :obj:`Adj` form
        - **output:** :math:`(|\mathcal{U}|, d)` and
          :math:`(|\mathcal{I}|, d)` by node type; with
          :obj:`return_views=True`, also :math:`\mathbf{Z}` as
          :obj:`"interactions"` and :math:`\mathbf{H}` as :obj:`"similar"`

    Raises:
        ValueError: If an argument is out of range or of the wrong shape.

    Example:
        >>> import torch
        >>> from diffmm_geo.nn import ItemGraphLightGCN
        >>> model = ItemGraphLightGCN(4, 5, {'image': 16}, embedding_dim=8)
        >>> features = {'image': torch.randn(5, 16)}
        >>> graphs = {
        ...     ('user', 'interacts', 'item'): torch.tensor([[0, 1], [2, 3]]),
        ...     ('item', 'similar_image', 'item'): torch.tensor([[2], [4]]),
        ... }
        >>> out = model.fit_features(features)(features, graphs)
        >>> out['user'].size(), out['item'].size()
        (torch.Size([4, 8]), torch.Size([5, 8]))
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        modality_channels: Mapping[str, int],
        embedding_dim: int = 64,
        num_layers: int = 4,
        edge_type: EdgeType = ('user', 'interacts', 'item'),
    ) -> None:
        super().__init__()
        self.num_users = check_int('num_users', num_users)
        self.num_items = check_int('num_items', num_items)
        self.embedding_dim = check_int('embedding_dim', embedding_dim)
        self.num_layers = check_int('num_layers', num_layers, 0)
        self.edge_type = check_edge_type(edge_type)

        self.user_emb = Embedding(self.num_users, self.embedding_dim)
        self.item_emb = Embedding(self.num_items, self.embedding_dim)
        self.projections = ModalityProjection(
            modality_channels, embedding_dim, 'linear'
        )
        self.modality_channels = self.projections.channels
        self.modalities = list(self.modality_channels)
        self.scalers = ModuleDict(
            {
                module_name(m): FeatureScaler(channels)
                for m, channels in self.modality_channels.items()
            }
        )
        self.gates = ModuleDict(
            {
                module_name(m): Linear(embedding_dim, embedding_dim)
                for m in self.modalities
            }
        )
        self.conv = BipartiteLGConv(add_self_loops=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters of the module."""
        torch.nn.init.xavier_uniform_(self.user_emb.weight)
        torch.nn.init.xavier_uniform_(self.item_emb.weight)
        self.projections.reset_parameters()
        for gate in self.gates.values():
            gate.reset_parameters()  # type: ignore[operator]

    def fit_features(
        self, feature_dict: Mapping[str, Tensor]
    ) -> 'ItemGraphLightGCN':
        r"""Takes the mean and the scale of each modality from features
        :math:`(|\mathcal{I}|, C_m)`. Returns the model itself.
        """
        self.projections.check(feature_dict, self.num_items)
        for m in self.modalities:
            scaler = self.scalers[module_name(m)]
            scaler.fit(feature_dict[m])  # type: ignore[operator]
        return self

    @property
    def edge_types(self) -> list[EdgeType]:
        similar = [self.similar_edge_type(m) for m in self.modalities]
        return [self.edge_type, *similar]

    def similar_edge_type(self, modality: str) -> EdgeType:
        r"""The edge type of the graph of a modality."""
        item = self.edge_type[2]
        return item, f'similar_{modality}', item

    def graph_size(self, edge_type: EdgeType) -> tuple[int, int]:
        if edge_type == self.edge_type:
            return self.size
        return self.num_items, self.num_items

    @property
    def config(self) -> dict[str, Any]:
        names = ['num_users', 'num_items', 'modality_channels']
        names += ['embedding_dim', 'num_layers']
        return {
            **{name: getattr(self, name) for name in names},
            'edge_type': list(self.edge_type),
        }

    def adjacency_dict(
        self, edge_index_dict: EdgeIndexDict, prepare: bool = True
    ) -> dict[EdgeType, BipartiteAdj]:
        r"""Normalizes and sorts graphs for repeated calls of the model."""
        check_keys('edge_index_dict', edge_index_dict, self.edge_types)
        weight = self.user_emb.weight
        return {
            t: self.conv.adjacency(
                edge_index_dict[t],
                self.graph_size(t),
                weight.dtype,
                prepare,
                weight.device,
                f'edge_index_dict[{t}]',
            )
            for t in self.edge_types
        }

    def forward(
        self,
        feature_dict: Mapping[str, Tensor],
        edge_index_dict: EdgeIndexDict,
        *,
        return_views: bool = False,
    ) -> Embeddings | tuple[Embeddings, dict[str, Embeddings]]:
        adj_dict = self.adjacency_dict(edge_index_dict, prepare=False)
        adj = adj_dict[self.edge_type]
        x_user, x_item = self.user_emb.weight, self.item_emb.weight
        sums = self.conv.power_sum(adj, x_user, x_item, self.num_layers)
        z_user, z_item = (x / (self.num_layers + 1) for x in sums)

        h_item = torch.zeros_like(x_item)
        for m, gate in self._gates(feature_dict):
            similar = adj_dict[self.similar_edge_type(m)]
            h_item = h_item + self.conv.to_item(similar, x_item * gate, x_item)
        h_item = h_item / len(self.modalities)
        h_user = self.conv.to_user(adj, x_user, h_item)

        user, _, item = self.edge_type
        out = {user: z_user + h_user, item: z_item + h_item}
        if not return_views:
            return out
        return out, {
            'interactions': {user: z_user, item: z_item},
            'similar': {user: h_user, item: h_item},
        }

    def _gates(
        self, feature_dict: Mapping[str, Tensor]
    ) -> Iterator[tuple[str, Tensor]]:
        self.projections.check(feature_dict, self.num_items)
        for m in self.modalities:
            name = module_name(m)
            x = self.projections[name](self.scalers[name](feature_dict[m]))
            yield m, self.gates[name](x).sigmoid()

    def loss(
        self,
        feature_dict: Mapping[str, Tensor],
        edge_index_dict: EdgeIndexDict,
        edge_label_index: Tensor,
        neg_item: Tensor,
        *,
        objective: str = 'bpr',
        reg_weight: float = 1e-4,
        ssl_weight: float = 1e-2,
        temperature: float = 0.2,
        num_candidates: int | None = None,
    ) -> dict[str, Tensor]:
        r"""The weighted terms of the training objective of a batch

        .. math::
            \mathcal{L} = \mathcal{L}_{\mathrm{rank}} + \lambda_1 \left(
            \mathcal{L}_{\mathrm{cl}}^{\mathrm{user}} +
            \mathcal{L}_{\mathrm{cl}}^{\mathrm{item}} \right) +
            \frac{\lambda_2}{B} {\| \mathbf{Z}_b + \mathbf{H}_b \|}^2

        where :math:`b` are the nodes of the batch. The contrastive loss is
        between :math:`\mathbf{Z}` and :math:`\mathbf{H}`. The term of shared
        negative items is divided by their number :math:`N`, not :math:`B`.

        Args:
            feature_dict (dict[str, torch.Tensor]): The raw features.
            edge_index_dict (dict): The graphs.
            edge_label_index (torch.Tensor): Users and positive items.
            neg_item (torch.Tensor): A negative item for each positive item,
                or, for :obj:`objective="softmax"`, negative items that all
                pairs share.
            objective (str, optional): The ranking loss: :obj:`"bpr"`, or
                :obj:`"softmax"` for
                :func:`~diffmm_geo.nn.sampled_softmax_loss`.
                (default: :obj:`"bpr"`)
            reg_weight (float, optional): The weight :math:`\lambda_2`.
                (default: :obj:`1e-4`)
            ssl_weight (float, optional): The weight :math:`\lambda_1`.
                (default: :obj:`1e-2`)
            temperature (float, optional): See
                :class:`~diffmm_geo.nn.CrossModalContrastiveLoss`.
                (default: :obj:`0.2`)
            num_candidates (int, optional): See
                :class:`~diffmm_geo.nn.CrossModalContrastiveLoss`.
                (default: :obj:`None`)

        Shapes:
            - **edge_label_index:** :math:`(2, B)`
            - **neg_item:** :math:`(B)`, or :math:`(N)` for
              :obj:`objective="softmax"`
            - **output:** scalars :obj:`"bpr"` or :obj:`"softmax"`,
              :obj:`"reg"` and :obj:`"contrastive"`

        Raises:
            ValueError: If an argument is out of range or of the wrong shape.
                Indices on a GPU are not checked, to avoid synchronization.
        """
        check_choice('objective', objective, OBJECTIVES)
        check_number('reg_weight', reg_weight, 0.0)
        check_number('ssl_weight', ssl_weight, 0.0)
        contrast = CrossModalContrastiveLoss(
            temperature, 'main', num_candidates
        ).contrast
        user, positive, negative = self._batch(
            edge_label_index, neg_item, objective
        )
        out, views = self(feature_dict, edge_index_dict, return_views=True)
        z, h = views.values()
        user_type, _, item_type = self.edge_type
        # The gradient of an advanced index would sort.
        rows = [
            out[t].index_select(0, index)
            for t, index in (
                (user_type, user),
                (item_type, positive),
                (item_type, negative),
            )
        ]
        ranking = bpr_loss if objective == 'bpr' else sampled_softmax_loss
        reg = sum(x.square().sum() / x.size(0) for x in rows)
        contrastive = torch.zeros_like(reg)
        if ssl_weight > 0:
            nodes = ((user_type, user), (item_type, positive))
            contrastive = contrast(
                [Nodes(z[t], [h[t]], index) for t, index in nodes]
            )
        return {
            objective: ranking(*rows),
            'reg': reg_weight * reg,
            'contrastive': ssl_weight * contrastive,
        }

    def _batch(
        self, edge_label_index: Tensor, neg_item: Tensor, objective: str
    ) -> tuple[Tensor, Tensor, Tensor]:
        device = self.user_emb.weight.device
        if objective == 'bpr':
            return check_triples(edge_label_index, neg_item, self.size, device)
        read = device.type != 'cuda'
        user, positive = check_edge_index(
            'edge_label_index', edge_label_index, *self.size, device, read=read
        )
        negative = check_index(
            'neg_item', neg_item, self.num_items, device, read=read
        )
        return user, positive, negative

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.num_users}, {self.num_items}, '
            f'{self.modality_channels}, embedding_dim={self.embedding_dim}, '
            f'num_layers={self.num_layers})'
        )
