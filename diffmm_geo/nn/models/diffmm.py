import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Embedding, ModuleDict, Parameter
from torch_geometric.typing import Adj, EdgeType

from diffmm_geo.nn.conv import MultiModalLightGCNConv
from diffmm_geo.nn.loss import CrossModalContrastiveLoss
from diffmm_geo.nn.modality_name import module_name
from diffmm_geo.nn.models.projection import PROJECTIONS
from diffmm_geo.nn.pretrained import WEIGHTS, Pretrained
from diffmm_geo.ops import topk_items
from diffmm_geo.ops.bipartite_adj import BipartiteAdj, to_coo
from diffmm_geo.ops.item_lists import ItemLists
from diffmm_geo.ops.unit_rows import unit_rows
from diffmm_geo.utils.checks import (
    check_choice,
    check_edge_index,
    check_edge_type,
    check_index,
    check_int,
    check_k,
    check_keys,
    check_matrix,
    check_modalities,
    check_number,
    check_state_dict,
    describe,
    tensors_of,
)

EdgeIndexDict = Mapping[EdgeType, Adj | BipartiteAdj]
Embeddings = dict[str, Tensor]  # By node type.
GRAPHS = 'graphs.safetensors'

T = TypeVar('T', bound='DiffMM')


class DiffMM(Pretrained):
    r"""The recommendation model of the `"DiffMM: Multi-Modal Diffusion Model
    for Recommendation" <https://arxiv.org/abs/2406.11781>`_ paper: a
    :class:`~diffmm_geo.nn.MultiModalLightGCNConv` over the observed and the
    generated graphs, whose output :math:`\mathbf{H}` is propagated further

    .. math::
        \mathbf{Z}_0 = \mathbf{H}, \qquad
        \mathbf{Z}_l = \mathbf{\hat{A}} \mathbf{Z}_{l-1}, \qquad
        \mathbf{Z} = \sum_{l=0}^{L} \mathbf{Z}_l + \omega \,
        \frac{\mathbf{H}}{\| \mathbf{H} \|}

    (normalised by rows). The score of an item for a user is the product of
    their rows of :math:`\mathbf{Z}`.

    Args:
        num_users (int): The number of users.
        num_items (int): The number of items.
        modality_channels (dict[str, int]): The number of raw channels of
            every modality.
        embedding_dim (int, optional): The size :math:`d` of embeddings.
            (default: :obj:`64`)
        num_layers (int, optional): The number :math:`L` of further
            propagation steps. (default: :obj:`1`)
        generated_weight (float, optional): The weight of the generated
            graphs. (default: :obj:`0.2`)
        residual_weight (float, optional): The weight :math:`\omega` of the
            normalised residual. (default: :obj:`0.5`)
        projection (str or dict[str, str], optional): How raw features are
            projected to embeddings, for all modalities or for each:
            :obj:`"linear"` (affine) or :obj:`"leaky_xavier"` (no bias, Xavier
            initialisation, LeakyReLU of slope 0.2).
            (default: :obj:`"linear"`)
        edge_type (tuple[str, str, str], optional): The edge type of observed
            interactions. (default: :obj:`('user', 'interacts', 'item')`)

    Shapes:
        - **feature_dict:** raw features :math:`(|\mathcal{I}|, C_m)` for
          every modality
        - **edge_index_dict:** as in
          :class:`~diffmm_geo.nn.MultiModalLightGCNConv`
        - **n_id_dict** *(optional)*: the nodes of a subgraph, by node type,
          whose features and graphs the others then are; gradients of ID
          embeddings are sparse
        - **output:** :math:`(|\mathcal{U}|, d)` for users and
          :math:`(|\mathcal{I}|, d)` for items, by node type

    Raises:
        ValueError: If an argument is out of range or does not fit.

    Example:
        >>> import torch
        >>> from diffmm_geo.nn import DiffMM
        >>> model = DiffMM(4, 5, {'image': 16, 'text': 24}, embedding_dim=8)
        >>> features = {'image': torch.randn(5, 16), 'text': torch.randn(5, 24)}
        >>> observed = torch.tensor([[0, 1, 2], [2, 3, 4]])
        >>> edge_index_dict = {('user', 'interacts', 'item'): observed}
        >>> out = model(features, edge_index_dict)
        >>> out['user'].size(), out['item'].size()
        (torch.Size([4, 8]), torch.Size([5, 8]))
        >>> model.recommend(
        ...     features, edge_index_dict, k=2, exclude_edge_index=observed
        ... ).size()
        torch.Size([4, 2])
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
    ) -> None:
        super().__init__()
        check_keys('modality_channels', modality_channels, [])
        self.modalities = check_modalities(
            modality_channels, 'modality_channels'
        )
        self.num_users = check_int('num_users', num_users)
        self.num_items = check_int('num_items', num_items)
        self.embedding_dim = check_int('embedding_dim', embedding_dim)
        self.num_layers = check_int('num_layers', num_layers, 0)
        self.residual_weight = check_number('residual_weight', residual_weight)
        self.edge_type = check_edge_type(edge_type)
        self.modality_channels = {
            m: check_int(f"modality_channels['{m}']", channels)
            for m, channels in modality_channels.items()
        }
        if isinstance(projection, str):
            projection = {m: projection for m in self.modalities}
        check_keys('projection', projection, self.modalities)
        self.projection = {
            m: check_choice('projection', projection[m], PROJECTIONS)
            for m in self.modalities
        }

        self.user_emb = Embedding(num_users, embedding_dim)
        self.item_emb = Embedding(num_items, embedding_dim)
        self.projections = ModuleDict(
            {
                module_name(m): PROJECTIONS[self.projection[m]](
                    channels, embedding_dim
                )
                for m, channels in self.modality_channels.items()
            }
        )
        self.conv = MultiModalLightGCNConv(
            self.modalities, generated_weight, edge_type
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters of the module."""
        torch.nn.init.xavier_uniform_(self.user_emb.weight)
        torch.nn.init.xavier_uniform_(self.item_emb.weight)
        for projection in self.projections.values():
            projection.reset_parameters()  # type: ignore[operator]
        self.conv.reset_parameters()

    @property
    def size(self) -> tuple[int, int]:
        r"""The number of users and the number of items."""
        return self.num_users, self.num_items

    @property
    def config(self) -> dict[str, Any]:
        return {
            'num_users': self.num_users,
            'num_items': self.num_items,
            'modality_channels': self.modality_channels,
            'embedding_dim': self.embedding_dim,
            'num_layers': self.num_layers,
            'generated_weight': self.conv.generated_weight,
            'residual_weight': self.residual_weight,
            'projection': self.projection,
            'edge_type': list(self.edge_type),
        }

    def projected(
        self,
        feature_dict: Mapping[str, Tensor],
        num_items: int | None = None,
    ) -> dict[str, Tensor]:
        r"""The projected features :math:`\mathbf{F}_m`, not normalised.

        Args:
            feature_dict (dict[str, torch.Tensor]): The raw features.
            num_items (int, optional): The number of items they are of, all
                of the model if not given. (default: :obj:`None`)

        Shapes:
            - **feature_dict:** :math:`(|\mathcal{I}|, C_m)`
            - **output:** :math:`(|\mathcal{I}|, d)` for every modality
        """
        check_keys('feature_dict', feature_dict, self.modalities)
        for m in self.modalities:
            check_matrix(
                f"feature_dict['{m}']",
                feature_dict[m],
                self.num_items if num_items is None else num_items,
                self.modality_channels[m],
                device=self.user_emb.weight.device,
            )
        return {
            m: self.projections[module_name(m)](feature_dict[m])
            for m in self.modalities
        }

    def adjacency_dict(
        self,
        edge_index_dict: EdgeIndexDict,
        prepare: bool = True,
    ) -> dict[EdgeType, BipartiteAdj]:
        r"""Normalises and sorts the graphs once, to be passed in place of
        :obj:`edge_index_dict` from then on.
        """
        weight = self.user_emb.weight
        return self.conv.adjacency_dict(
            edge_index_dict, self.size, weight.dtype, prepare, weight.device
        )

    def forward(
        self,
        feature_dict: Mapping[str, Tensor],
        edge_index_dict: EdgeIndexDict,
        n_id_dict: Mapping[str, Tensor] | None = None,
        *,
        return_views: bool = False,
    ) -> Embeddings | tuple[Embeddings, dict[str, Embeddings]]:
        x_user, x_item = self._id_embeddings(n_id_dict)
        size = (x_user.size(0), x_item.size(0))
        adj_dict = self.conv.adjacency_dict(edge_index_dict, size, x_user.dtype)
        feature = {
            m: unit_rows(x)
            for m, x in self.projected(feature_dict, size[1]).items()
        }
        h = self.conv.aggregate_modalities(adj_dict, x_user, x_item, feature)
        starts = [h]
        if return_views:
            generated = {
                m: self.conv.generated_edge_type(m) for m in self.modalities
            }
            check_keys('edge_index_dict', adj_dict, generated.values())
            starts += [
                self.conv.step(adj_dict[t], x_user, feature[m])
                for m, t in generated.items()
            ]
        z, *views = self._propagate(adj_dict[self.edge_type], starts)
        out = self._by_node_type(
            z_t + self.residual_weight * unit_rows(h_t)
            for h_t, z_t in zip(h, z)
        )
        if not return_views:
            return out
        return out, dict(zip(self.modalities, map(self._by_node_type, views)))

    def _id_embeddings(
        self,
        n_id_dict: Mapping[str, Tensor] | None,
    ) -> tuple[Tensor, Tensor]:
        r"""All rows, or those of a subgraph, whose gradients are sparse."""
        user, item = self.user_emb.weight, self.item_emb.weight
        if n_id_dict is None:
            return user, item
        check_keys('n_id_dict', n_id_dict, self.edge_type[::2])
        return (
            F.embedding(n_id_dict[self.edge_type[0]], user, sparse=True),
            F.embedding(n_id_dict[self.edge_type[2]], item, sparse=True),
        )

    def _propagate(
        self,
        adj: BipartiteAdj,
        starts: Sequence[tuple[Tensor, Tensor]],
    ) -> list[tuple[Tensor, Tensor]]:
        r"""Sums the powers of the graph, applied to all starts side by side."""
        user, item = (torch.cat(x, dim=-1) for x in zip(*starts))
        out_user, out_item = user, item
        for _ in range(self.num_layers):
            user, item = self.conv.step(adj, user, item)
            out_user, out_item = out_user + user, out_item + item
        return list(
            zip(
                out_user.split(self.embedding_dim, dim=-1),
                out_item.split(self.embedding_dim, dim=-1),
            )
        )

    def _by_node_type(self, x: Iterable[Tensor]) -> Embeddings:
        return dict(zip(self.edge_type[::2], x))

    def modality_views(
        self,
        feature_dict: Mapping[str, Tensor],
        edge_index_dict: EdgeIndexDict,
    ) -> dict[str, Embeddings]:
        r"""The views that :meth:`forward` returns with
        :obj:`return_views=True`.
        """
        return self(feature_dict, edge_index_dict, return_views=True)[1]

    def forward_with_views(
        self,
        feature_dict: Mapping[str, Tensor],
        edge_index_dict: EdgeIndexDict,
        n_id_dict: Mapping[str, Tensor] | None = None,
    ) -> tuple[Embeddings, dict[str, Embeddings]]:
        r"""The same as :obj:`forward(..., return_views=True)`."""
        return self(feature_dict, edge_index_dict, n_id_dict, return_views=True)

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
        n_id_dict: Mapping[str, Tensor] | None = None,
        candidate_sample: Mapping[str, tuple[Tensor, Tensor]] | None = None,
        contrastive_dtype: torch.dtype | None = None,
    ) -> dict[str, Tensor]:
        r"""The training objective

        .. math::
            \mathcal{L} = \mathcal{L}_{\mathrm{BPR}} + \lambda_1 \left(
            \mathcal{L}_{\mathrm{cl}}^{\mathrm{user}} +
            \mathcal{L}_{\mathrm{cl}}^{\mathrm{item}} \right) + \lambda_2
            \left( {\| \mathbf{E}_u \|}^2 + {\| \mathbf{E}_i \|}^2 \right)

        by its weighted terms. Their sum is the objective.

        Args:
            feature_dict (dict[str, torch.Tensor]): The raw features.
            edge_index_dict (dict): The observed and generated graphs.
            edge_label_index (torch.Tensor): The users and positive items of
                the batch.
            neg_item (torch.Tensor): A negative item for each.
            reg_weight (float, optional): The weight :math:`\lambda_2`.
                (default: :obj:`1e-6`)
            ssl_weight (float, optional): The weight :math:`\lambda_1`. If it
                is zero, no views are computed. (default: :obj:`1e-2`)
            temperature (float, optional): The temperature of the contrastive
                loss. (default: :obj:`0.5`)
            anchor (str, optional): The anchor of the contrastive loss; see
                :class:`~diffmm_geo.nn.CrossModalContrastiveLoss`.
                (default: :obj:`"main"`)
            num_candidates (int, optional): The number of candidates that the
                contrastive loss draws, all nodes if not given.
                (default: :obj:`None`)
            n_id_dict (dict[str, torch.Tensor], optional): The nodes of a
                subgraph, by node type. All other arguments then refer to it,
                and the regularization covers its nodes.
                (default: :obj:`None`)
            candidate_sample (dict[str, tuple], optional): The candidates of
                the contrastive loss and their weights, by node type; see
                :func:`~diffmm_geo.nn.info_nce`. (default: :obj:`None`)
            contrastive_dtype (torch.dtype, optional): The type that autocast
                uses in the contrastive loss, the current one if not given.
                (default: :obj:`None`)

        Shapes:
            - **edge_label_index:** :math:`(2, B)`
            - **neg_item:** :math:`(B)`
            - **output:** scalars :obj:`"bpr"`, :obj:`"reg"` and
              :obj:`"contrastive"`

        Raises:
            ValueError: If an argument is out of range or does not fit. The
                indices of a batch on a GPU are not read, as this would wait
                for the device.
        """
        check_number('reg_weight', reg_weight, 0.0)
        check_number('ssl_weight', ssl_weight, 0.0)
        contrast = CrossModalContrastiveLoss(
            temperature, anchor, num_candidates
        )
        user, positive, negative = self._check_triples(
            edge_label_index, neg_item, n_id_dict
        )
        user_type, _, item_type = self.edge_type
        if candidate_sample is not None:
            check_keys(
                'candidate_sample', candidate_sample, self.edge_type[::2]
            )
        reg = reg_weight * self.reg_loss(n_id_dict)
        contrastive = torch.zeros_like(reg)
        inputs = feature_dict, edge_index_dict, n_id_dict
        if ssl_weight > 0:
            out, views = self(*inputs, return_views=True)
            with (
                nullcontext()
                if contrastive_dtype is None
                else torch.autocast(user.device.type, contrastive_dtype)
            ):
                for t, index in ((user_type, user), (item_type, positive)):
                    contrastive = contrastive + contrast.contrast(
                        [view[t] for view in views.values()],
                        index,
                        out[t],
                        None
                        if candidate_sample is None
                        else candidate_sample[t],
                    )
        else:
            out = self(*inputs)

        x_user, x_item = out[user_type][user], out[item_type]
        margin = (x_user * x_item[positive]).sum(dim=-1) - (
            x_user * x_item[negative]
        ).sum(dim=-1)
        return {
            'bpr': -F.logsigmoid(margin).mean(),
            'reg': reg,
            'contrastive': ssl_weight * contrastive,
        }

    def _check_triples(
        self,
        edge_label_index: Tensor,
        neg_item: Tensor,
        n_id_dict: Mapping[str, Tensor] | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        num_users, num_items = self.size
        if n_id_dict is not None:
            check_keys('n_id_dict', n_id_dict, self.edge_type[::2])
            num_users, num_items = (
                n_id_dict[t].numel() for t in self.edge_type[::2]
            )
        device = self.user_emb.weight.device
        read = device.type != 'cuda'
        user, positive = check_edge_index(
            'edge_label_index',
            edge_label_index,
            num_users,
            num_items,
            device,
            read=read,
        )
        negative = check_index(
            'neg_item', neg_item, num_items, device, read=read
        )
        if negative.numel() == 0 or negative.size() != positive.size():
            raise ValueError(
                f"'neg_item' needs one item for each of the "
                f"{positive.numel()} interactions of 'edge_label_index', at "
                f'least one (got {negative.numel()})'
            )
        return user, positive, negative

    def reg_loss(
        self,
        n_id_dict: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        r"""The squared norm of the ID embeddings,
        :math:`{\| \mathbf{E}_u \|}^2 + {\| \mathbf{E}_i \|}^2`, or of those
        of a subgraph: its gradient is then that of all, at these rows.
        """
        user, item = self._id_embeddings(n_id_dict)
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
        r"""The top-:math:`k` items of users.

        Args:
            feature_dict (dict[str, torch.Tensor]): The raw features.
            edge_index_dict (dict): The observed and generated graphs.
            k (int): The number of recommendations.
            exclude_edge_index (torch.Tensor, optional): The interactions
                (row 0 users, row 1 items) that are not to be recommended,
                usually those observed. (default: :obj:`None`)
            user_index (torch.Tensor, optional): The users to recommend to,
                all of them if not given. (default: :obj:`None`)

        Shapes:
            - **exclude_edge_index:** :math:`(2, |\mathcal{E}|)`
            - **user_index:** :math:`(B)`
            - **output:** item indices :math:`(B, k)` by descending score;
              :obj:`-1` where fewer than :math:`k` items are left
        """
        k = check_k(k, self.num_items)
        device = self.user_emb.weight.device
        exclude = None
        if exclude_edge_index is not None:
            exclude = ItemLists.from_edge_index(
                check_edge_index(
                    'exclude_edge_index',
                    exclude_edge_index,
                    *self.size,
                    device,
                ),
                self.num_users,
            )
        if user_index is not None:
            user_index = check_index(
                'user_index', user_index, self.num_users, device
            )

        out = self(feature_dict, edge_index_dict)
        query = out[self.edge_type[0]]
        if user_index is not None:
            query = query[user_index]
            exclude = None if exclude is None else exclude.take(user_index)
        return topk_items(query, out[self.edge_type[2]], k, exclude=exclude)

    def with_new_items(
        self: T,
        num_new_items: int,
        item_emb: Tensor | None = None,
    ) -> T:
        r"""A copy of the model with new items behind its own, which are
        scored by their features alone: they have no interactions and, unless
        given, ID embeddings of zero.

        Features then need rows for the new items. All graphs stay valid, and
        what was computed for users and old items stays the same. A
        :class:`~diffmm_geo.nn.ModalityDiffusion` scores only the items that
        it was trained with, and generates no interactions with new ones.

        Without interactions to average over, new items have longer embeddings
        than most, and rise in rankings; those that were in training without
        interactions were held down as negatives. Where that is too much, rows
        of the mean ID embedding of the items with a single interaction hold
        new ones down a little.

        Args:
            num_new_items (int): The number of new items.
            item_emb (torch.Tensor, optional): Their ID embeddings.
                (default: :obj:`None`)

        Shapes:
            - **item_emb:** :math:`(N, d)`

        Raises:
            ValueError: If an argument is out of range or does not fit.
        """
        check_int('num_new_items', num_new_items)
        weight = self.item_emb.weight
        if item_emb is None:
            item_emb = weight.new_zeros(num_new_items, self.embedding_dim)
        check_matrix('item_emb', item_emb, num_new_items, self.embedding_dim)
        out = copy.deepcopy(self)
        out.num_items = self.num_items + num_new_items
        out.item_emb.num_embeddings = out.num_items
        out.item_emb.weight = Parameter(
            torch.cat([weight.detach(), item_emb.detach().to(weight)]),
            weight.requires_grad,
        )
        return out

    def without_item_emb(self: T, item_index: Tensor) -> T:
        r"""A copy of the model with ID embeddings of zero for some items,
        which are then scored as :meth:`with_new_items` does. Without
        interactions, an ID embedding is only ever trained as that of a
        negative, and holds the item down.

        Args:
            item_index (torch.Tensor): The items.

        Shapes:
            - **item_index:** :math:`(N)`

        Raises:
            ValueError: If an item is out of range.
        """
        item_index = check_index('item_index', item_index, self.num_items)
        out = copy.deepcopy(self)
        with torch.no_grad():
            out.item_emb.weight[item_index] = 0.0
        return out

    def save_pretrained(
        self,
        folder: str | Path,
        edge_index_dict: EdgeIndexDict | None = None,
    ) -> None:
        r"""Saves the model to a folder: :obj:`config.json` and
        :obj:`model.safetensors`, and where they are given, the graphs that
        embeddings are computed over to :obj:`graphs.safetensors`. Files of an
        earlier save are replaced all at the end, or left as they were.

        Args:
            folder (str or Path): The folder; made if missing.
            edge_index_dict (dict, optional): The observed and generated
                graphs. (default: :obj:`None`)

        Raises:
            ImportError: If safetensors is not installed.
            ValueError: If the observed graph is missing, or a graph does not
                fit or has edge weights.
        """
        files: dict[str, dict[str, Tensor]] = {WEIGHTS: self.state_dict()}
        if edge_index_dict is not None:
            check_keys('edge_index_dict', edge_index_dict, [self.edge_type])
            files[GRAPHS] = {
                json.dumps(t): _edge_index(t, edge_index_dict[t], self.size)
                for t in self._edge_types()
                if t in edge_index_dict
            }
        self._save(folder, files)
        if edge_index_dict is None:
            self._remove(folder, GRAPHS)

    def load_graphs(self, folder: str | Path) -> dict[EdgeType, Tensor]:
        r"""The graphs that were saved with the model, on its device.

        Args:
            folder (str or Path): The folder.

        Shapes:
            - **output:** :math:`(2, |\mathcal{E}|)` for every edge type

        Raises:
            FileNotFoundError: If none were saved.
            ImportError: If safetensors is not installed.
            ValueError: If the file is not whole, is not of the last save, or
                has graphs that do not fit the model.
        """
        path, graphs = Path(folder, GRAPHS), self._read(folder, GRAPHS)
        by_key = {json.dumps(t): t for t in self._edge_types()}
        unknown = sorted(graphs.keys() - by_key.keys())
        if unknown or json.dumps(self.edge_type) not in graphs:
            raise ValueError(
                f"'{path}' needs the graphs of {list(by_key)}, at least the "
                f'first (got {list(graphs)})'
            )
        return {
            t: check_edge_index(f'{path}, {t}', graphs[key], *self.size).to(
                self.user_emb.weight.device
            )
            for key, t in by_key.items()
            if key in graphs
        }

    def _edge_types(self) -> list[tuple[str, str, str]]:
        generated = [self.conv.generated_edge_type(m) for m in self.modalities]
        return [self.edge_type, *generated]

    def load_official_state_dict(
        self,
        state_dict: Mapping[str, Tensor],
    ) -> None:
        r"""Loads the parameters of the authors' :obj:`Model`:
        :obj:`uEmbeds`, :obj:`iEmbeds`, :obj:`modal_weight`, and for every
        modality :obj:`{m}_trans.weight` and :obj:`{m}_trans.bias`
        (:obj:`"linear"`) or :obj:`{m}_trans` (:obj:`"leaky_xavier"`).

        Raises:
            ValueError: If an entry is missing, unknown, or of another shape.
        """
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
        tensors = tensors_of('state_dict', state_dict, self.user_emb.weight)
        renamed = {names.get(key, key): x for key, x in tensors.items()}
        check_state_dict(renamed, self.state_dict())
        self.load_state_dict(renamed)

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.num_users}, '
            f'{self.num_items}, {self.modality_channels}, '
            f'embedding_dim={self.embedding_dim}, '
            f'num_layers={self.num_layers})'
        )


def _edge_index(
    edge_type: EdgeType,
    adj: Adj | BipartiteAdj,
    size: tuple[int, int],
) -> Tensor:
    if isinstance(adj, BipartiteAdj):
        raise ValueError(
            f"'edge_index_dict' needs {edge_type} as it was before "
            f"'adjacency_dict' (got a BipartiteAdj)"
        )
    user, item, weight = to_coo(adj, size)
    if weight is not None and bool((weight != 1).any()):
        raise ValueError(
            f"'edge_index_dict' needs {edge_type} without edge weights to be "
            f'saved (got {describe(weight)})'
        )
    return torch.stack([user, item])
