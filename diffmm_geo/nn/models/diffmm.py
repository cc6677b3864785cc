from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import Embedding
from torch_geometric.typing import Adj, EdgeType

from diffmm_geo.nn.conv import MultiModalLightGCNConv
from diffmm_geo.nn.loss import CrossModalContrastiveLoss, bpr_loss
from diffmm_geo.nn.models.projection import ModalityProjection
from diffmm_geo.nn.pretrained import (
    PretrainedWithGraphs,
    load_official,
    module_name,
)
from diffmm_geo.ops.dense import unit_rows
from diffmm_geo.ops.info_nce import Nodes
from diffmm_geo.recommender import Recommender
from diffmm_geo.sparse import BipartiteAdj
from diffmm_geo.utils.checks import (
    check_edge_type,
    check_int,
    check_k,
    check_keys,
    check_number,
    check_triples,
)

EdgeIndexDict = Mapping[EdgeType, Adj | BipartiteAdj]
Embeddings = dict[str, Tensor]  # By node type.


class DiffMM(PretrainedWithGraphs):
    r"""The recommendation model of the `"DiffMM: Multi-Modal Diffusion Model
    for Recommendation" <https://arxiv.org/abs/2406.11781>`_ paper. It
    propagates the output :math:`\mathbf{H}` of a
    :class:`~diffmm_geo.nn.MultiModalLightGCNConv`

    .. math::
        \mathbf{Z}_0 = \mathbf{H}, \qquad
        \mathbf{Z}_l = \mathbf{\hat{A}} \mathbf{Z}_{l-1}, \qquad
        \mathbf{Z} = \sum_{l=0}^{L} \mathbf{Z}_l + \omega \,
        \frac{\mathbf{H}}{\| \mathbf{H} \|}

    with row-wise normalization. The score of an item for a user is the product
    of their rows in :math:`\mathbf{Z}`. The view of modality :math:`m`, with
    generated graph :math:`\mathbf{\hat{A}}_m` and row-normalized projected
    features :math:`\mathbf{\bar{F}}_m`, is

    .. math::
        \mathbf{V}_m = \sum_{l=0}^{L} \mathbf{\hat{A}}^l \left(
        \mathbf{\hat{A}}_m \, [\mathbf{E}_u; \mathbf{\bar{F}}_m] \right).

    Args:
        num_users (int): The number of users.
        num_items (int): The number of items.
        modality_channels (dict[str, int]): The number of raw channels of each
            modality.
        embedding_dim (int, optional): The embedding size :math:`d`.
            (default: :obj:`64`)
        num_layers (int, optional): The number :math:`L` of propagation steps.
            (default: :obj:`1`)
        generated_weight (float, optional): The weight of the generated
            graphs. (default: :obj:`0.2`)
        residual_weight (float, optional): The weight :math:`\omega` of the
            normalized residual. (default: :obj:`0.5`)
        projection (str or dict[str, str], optional): The projection of raw
            features, either one for all modalities or one for each:
            :obj:`"linear"` (affine) or :obj:`"leaky_xavier"` (no bias, Xavier
            initialization, LeakyReLU of slope 0.2). (default: :obj:`"linear"`)
        edge_type (tuple[str, str, str], optional): The edge type of observed
            interactions. (default: :obj:`('user', 'interacts', 'item')`)
        standardize (bool, optional): Whether to center each channel of the raw
            features of a modality, and to divide all of them by their root mean
            square, both as of :meth:`fit_standardization`. Their scale and
            shift then do not matter. (default: :obj:`False`)

    Shapes:
        - **feature_dict:** raw features :math:`(|\mathcal{I}|, C_m)` of every
          modality
        - **edge_index_dict:** as in
          :class:`~diffmm_geo.nn.MultiModalLightGCNConv`; views need the
          generated graphs of all modalities
        - **output:** :math:`(|\mathcal{U}|, d)` and
          :math:`(|\mathcal{I}|, d)` by node type; also the views by modality
          if :obj:`return_views=True`

    Raises:
        ValueError: If an argument is out of range or of the wrong shape.

    Example:
        >>> import torch
        >>> from diffmm_geo.nn import DiffMM
        >>> model = DiffMM(4, 5, {'image': 16, 'text': 24}, embedding_dim=8)
        >>> features = {'image': torch.randn(5, 16), 'text': torch.randn(5, 24)}
        >>> edge_index = torch.tensor([[0, 1, 2], [2, 3, 4]])
        >>> out = model(features, {('user', 'interacts', 'item'): edge_index})
        >>> out['user'].size(), out['item'].size()
        (torch.Size([4, 8]), torch.Size([5, 8]))
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        modality_channels: Mapping[str, int],
        embedding_dim: int = 64,
        num_layers: int = 1,
        generated_weight: float = 0.2,
        residual_weight: float = 0.5,
        projection: str | Mapping[str, str] = 'linear',
        edge_type: EdgeType = ('user', 'interacts', 'item'),
        standardize: bool = False,
    ) -> None:
        super().__init__()
        self.num_users = check_int('num_users', num_users)
        self.num_items = check_int('num_items', num_items)
        self.embedding_dim = check_int('embedding_dim', embedding_dim)
        self.num_layers = check_int('num_layers', num_layers, 0)
        self.residual_weight = check_number('residual_weight', residual_weight)
        self.edge_type = check_edge_type(edge_type)

        self.user_emb = Embedding(self.num_users, self.embedding_dim)
        self.item_emb = Embedding(self.num_items, self.embedding_dim)
        self.projections = ModalityProjection(
            modality_channels, self.embedding_dim, projection, standardize
        )
        self.modality_channels = self.projections.channels
        self.modalities = list(self.modality_channels)
        self.conv = MultiModalLightGCNConv(
            self.modalities, generated_weight, edge_type
        )
        self.edge_types = self.conv.edge_types
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters of the module."""
        torch.nn.init.xavier_uniform_(self.user_emb.weight)
        torch.nn.init.xavier_uniform_(self.item_emb.weight)
        self.projections.reset_parameters()
        self.conv.reset_parameters()

    @property
    def config(self) -> dict[str, Any]:
        names = ['num_users', 'num_items', 'modality_channels']
        names += ['embedding_dim', 'num_layers', 'residual_weight']
        return {
            **{name: getattr(self, name) for name in names},
            'generated_weight': self.conv.generated_weight,
            'projection': self.projections.kinds,
            'edge_type': list(self.edge_type),
            'standardize': self.projections.standardize,
        }

    def fit_standardization(self, feature_dict: Mapping[str, Tensor]) -> None:
        r"""Sets the means and the scales of :obj:`standardize=True` from the
        raw features :math:`(|\mathcal{I}|, C_m)` of each modality. They are
        saved with the model.
        """
        self.projections.fit_standardization(feature_dict, self.num_items)

    def projected(self, feature_dict: Mapping[str, Tensor]) -> Embeddings:
        r"""The projected features :math:`\mathbf{F}_m` of each modality,
        :math:`(|\mathcal{I}|, d)` from :math:`(|\mathcal{I}|, C_m)`.
        """
        self.projections.check(feature_dict, self.num_items)
        out: Embeddings = self.projections(feature_dict)
        return out

    def adjacency_dict(
        self, edge_index_dict: EdgeIndexDict, prepare: bool = True
    ) -> dict[EdgeType, BipartiteAdj]:
        r"""Normalizes and sorts graphs for repeated calls of the model."""
        weight = self.user_emb.weight
        return self.conv.adjacency_dict(
            edge_index_dict, self.size, weight.dtype, prepare, weight.device
        )

    def forward(
        self,
        feature_dict: Mapping[str, Tensor],
        edge_index_dict: EdgeIndexDict,
        *,
        return_views: bool = False,
    ) -> Embeddings | tuple[Embeddings, dict[str, Embeddings]]:
        self.projections.check(feature_dict, self.num_items)
        if return_views:
            check_keys('edge_index_dict', edge_index_dict, self.edge_types)
        adj_dict = self.adjacency_dict(edge_index_dict, prepare=False)
        out, views = self.embed(feature_dict, adj_dict, return_views)
        return (out, views) if return_views else out

    def embed(
        self,
        feature_dict: Mapping[str, Tensor],
        adj_dict: Mapping[EdgeType, BipartiteAdj],
        return_views: bool = False,
    ) -> tuple[Embeddings, dict[str, Embeddings]]:
        r"""The embeddings and the views, if any, of :obj:`forward` on
        normalized graphs, without checks.
        """
        x_user, x_item = self.user_emb.weight, self.item_emb.weight
        projected = self.projections(feature_dict)
        feature = unit_rows(torch.stack(list(projected.values())))
        h = self.conv.aggregate_modalities(adj_dict, x_user, x_item, feature)
        starts = [h]
        if return_views:
            starts += [
                self.conv.step(adj_dict[t], x_user, x)
                for x, t in zip(feature.unbind(), self.edge_types[1:])
            ]
        # One propagation of all starts, side by side.
        user, item = (torch.cat(x, dim=-1) for x in zip(*starts))
        sums = self.conv.power_sum(
            adj_dict[self.edge_type], user, item, self.num_layers
        )
        z, *views = zip(*(x.split(self.embedding_dim, dim=-1) for x in sums))
        out = self._by_node_type(
            torch.add(z_t, unit_rows(h_t), alpha=self.residual_weight)
            for h_t, z_t in zip(h, z)
        )
        return out, dict(zip(self.modalities, map(self._by_node_type, views)))

    def _by_node_type(self, x: Iterable[Tensor]) -> Embeddings:
        return dict(zip(self.edge_type[::2], x))

    def modality_views(
        self, feature_dict: Mapping[str, Tensor], edge_index_dict: EdgeIndexDict
    ) -> dict[str, Embeddings]:
        r"""The views of :obj:`model(..., return_views=True)`."""
        views: dict[str, Embeddings]
        _, views = self(feature_dict, edge_index_dict, return_views=True)
        return views

    def loss(
        self,
        feature_dict: Mapping[str, Tensor],
        edge_index_dict: EdgeIndexDict,
        edge_label_index: Tensor,
        neg_item: Tensor,
        *,
        reg_weight: float = 1e-6,
        ssl_weight: float = 1e-2,
        temperature: float = 0.5,
        anchor: str = 'main',
        num_candidates: int | None = None,
    ) -> dict[str, Tensor]:
        r"""The weighted terms of the objective (Equation 26) of a batch

        .. math::
            \mathcal{L} = \mathcal{L}_{\mathrm{BPR}} + \lambda_1 \left(
            \mathcal{L}_{\mathrm{cl}}^{\mathrm{user}} +
            \mathcal{L}_{\mathrm{cl}}^{\mathrm{item}} \right) + \lambda_2
            \left( {\| \mathbf{E}_u \|}^2 + {\| \mathbf{E}_i \|}^2 \right).

        Args:
            feature_dict (dict[str, torch.Tensor]): The raw features.
            edge_index_dict (dict): The observed and generated graphs.
            edge_label_index (torch.Tensor): Users and positive items.
            neg_item (torch.Tensor): A negative item for each positive item.
            reg_weight (float, optional): The weight :math:`\lambda_2`.
                (default: :obj:`1e-6`)
            ssl_weight (float, optional): The weight :math:`\lambda_1`. If it is
                zero, no views are computed. (default: :obj:`1e-2`)
            temperature (float, optional): See
                :class:`~diffmm_geo.nn.CrossModalContrastiveLoss`.
                (default: :obj:`0.5`)
            anchor (str, optional): See there. (default: :obj:`"main"`)
            num_candidates (int, optional): See there. (default: :obj:`None`)

        Shapes:
            - **edge_label_index:** :math:`(2, B)`
            - **neg_item:** :math:`(B)`
            - **output:** scalars :obj:`"bpr"`, :obj:`"reg"` and
              :obj:`"contrastive"`

        Raises:
            ValueError: If an argument is out of range or of the wrong shape.
                Indices on a GPU are not checked, to avoid synchronization.
        """
        check_number('reg_weight', reg_weight, 0.0)
        check_number('ssl_weight', ssl_weight, 0.0)
        contrast = CrossModalContrastiveLoss(
            temperature, anchor, num_candidates
        )
        triples = check_triples(
            edge_label_index, neg_item, self.size, self.user_emb.weight.device
        )
        self.projections.check(feature_dict, self.num_items)
        if ssl_weight > 0:
            check_keys('edge_index_dict', edge_index_dict, self.edge_types)
        adj_dict = self.adjacency_dict(edge_index_dict, prepare=False)
        inputs = feature_dict, adj_dict, triples
        return self.objective(*inputs, reg_weight, ssl_weight, contrast)

    def objective(
        self,
        feature_dict: Mapping[str, Tensor],
        adj_dict: Mapping[EdgeType, BipartiteAdj],
        triples: Sequence[Tensor],
        reg_weight: float,
        ssl_weight: float,
        contrast: CrossModalContrastiveLoss,
        contrastive_dtype: torch.dtype | None = None,
    ) -> dict[str, Tensor]:
        r"""Equals :meth:`loss` of normalized graphs, without checks. The
        triples are users, positive and negative items. Autocast lowers the
        contrastive loss alone to :obj:`contrastive_dtype`, if given.
        """
        types = user_type, item_type = self.edge_type[::2]
        user, positive, negative = triples
        out, views = self.embed(feature_dict, adj_dict, ssl_weight > 0)
        if ssl_weight > 0:
            nodes = [
                Nodes(out[t], [view[t] for view in views.values()], index)
                for t, index in zip(types, (user, positive))
            ]
            with (
                nullcontext()
                if contrastive_dtype is None
                else torch.autocast(user.device.type, contrastive_dtype)
            ):
                contrastive = ssl_weight * contrast.contrast(nodes)
        else:
            contrastive = out[user_type].new_zeros(())

        # The gradient of an advanced index would sort.
        x_user = out[user_type].index_select(0, user)
        x_pos, x_neg = (
            out[item_type].index_select(0, i) for i in (positive, negative)
        )
        return {
            'bpr': bpr_loss(x_user, x_pos, x_neg),
            'reg': reg_weight * self.reg_loss(),
            'contrastive': contrastive,
        }

    def reg_loss(self) -> Tensor:
        r"""The squared norm of all ID embeddings."""
        user, item = self.user_emb.weight, self.item_emb.weight
        return user.square().sum() + item.square().sum()

    @torch.no_grad()
    def recommend(
        self,
        feature_dict: Mapping[str, Tensor],
        edge_index_dict: EdgeIndexDict,
        k: int,
        exclude_edge_index: Tensor | None = None,
        user_index: Tensor | None = None,
    ) -> Tensor:
        r"""The top-:math:`k` items of users; see
        :meth:`diffmm_geo.recommender.Recommender.recommend`. Warns of users
        who have no interactions in :obj:`exclude_edge_index`, as their items
        are arbitrary.
        """
        check_k(k, self.num_items)
        user, item = self(feature_dict, edge_index_dict).values()
        recommender = Recommender(user, item, exclude_edge_index)
        out: Tensor = recommender.recommend(user_index, k)
        return out

    def load_official_state_dict(
        self, state_dict: Mapping[str, Tensor]
    ) -> None:
        r"""Loads the parameters of the authors' :obj:`Model`."""
        names = {
            'uEmbeds': 'user_emb.weight',
            'iEmbeds': 'item_emb.weight',
            'modal_weight': 'conv.modality_weight',
        }
        for m in self.modalities:
            ours = f'projections.{module_name(m)}'
            names[f'{m}_trans'] = f'{ours}.weight'
            names[f'{m}_trans.weight'] = f'{ours}.weight'
            names[f'{m}_trans.bias'] = f'{ours}.bias'
        load_official(self, state_dict, lambda key: names.get(key, key))

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.num_users}, {self.num_items}, '
            f'{self.modality_channels}, embedding_dim={self.embedding_dim}, '
            f'num_layers={self.num_layers})'
        )
