from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform
from torch_geometric.typing import EdgeType

from diffmm_geo.nn import ModalityDiffusion
from diffmm_geo.nn.diffusion.diffusion_training import train_diffusion_epoch
from diffmm_geo.ops.bipartite_adj import to_coo
from diffmm_geo.ops.item_lists import ItemLists
from diffmm_geo.utils.checks import (
    check_bool,
    check_edge_type,
    check_int,
    check_k,
    check_keys,
    check_matrix,
    check_number,
    check_trainable,
)
from diffmm_geo.utils.features import modality_features


@functional_transform('modality_aware_graph_diffusion')
class ModalityAwareGraphDiffusion(BaseTransform):
    r"""Generates, for every modality, the interactions that the multi-modal
    graph diffusion of the `"DiffMM: Multi-Modal Diffusion Model for
    Recommendation" <https://arxiv.org/abs/2406.11781>`_ paper (Section 3.2)
    finds likely (functional name: :obj:`modality_aware_graph_diffusion`). They
    are added as edges of type :obj:`(user, f'denoised_{modality}', item)`.

    Args:
        diffusion (ModalityDiffusion): The denoisers, trained with DiffMM or
            by :meth:`fit`.
        edge_type (tuple[str, str, str], optional): The edge type of observed
            interactions. (default: :obj:`('user', 'interacts', 'item')`)
        num_edges_per_user (int, optional): The number of interactions to
            generate for each user. (default: :obj:`1`)
        sampling_steps (int, optional): The number of steps by which
            interactions are diffused first; see
            :meth:`~diffmm_geo.nn.ModalityDiffusion.sample`.
            (default: :obj:`0`)
        sampling_noise (bool, optional): Whether to sample with noise.
            (default: :obj:`False`)

    Raises:
        ValueError: If an argument, or the graph that comes, does not fit.

    Example:
        >>> import torch
        >>> from torch_geometric.data import HeteroData
        >>> from diffmm_geo.nn import ModalityDiffusion
        >>> from diffmm_geo.transforms import ModalityAwareGraphDiffusion
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 4, 6
        >>> data['item'].x_image = torch.randn(6, 16)
        >>> data['user', 'interacts', 'item'].edge_index = torch.tensor(
        ...     [[0, 1, 2, 3], [0, 1, 2, 3]]
        ... )
        >>> diffusion = ModalityDiffusion(6, ['image'], hidden_channels=8)
        >>> transform = ModalityAwareGraphDiffusion(
        ...     diffusion, num_edges_per_user=2
        ... )
        >>> data = transform.fit(data, num_epochs=2)(data)
        >>> data['user', 'denoised_image', 'item'].edge_index.size()
        torch.Size([2, 8])
    """

    def __init__(
        self,
        diffusion: ModalityDiffusion,
        edge_type: EdgeType = ('user', 'interacts', 'item'),
        num_edges_per_user: int = 1,
        sampling_steps: int = 0,
        sampling_noise: bool = False,
    ) -> None:
        if not isinstance(diffusion, ModalityDiffusion):
            raise ValueError(
                f"'diffusion' needs to be a ModalityDiffusion "
                f'(got {type(diffusion).__name__})'
            )
        self.diffusion = diffusion
        self.edge_type = check_edge_type(edge_type)
        self.num_edges_per_user = check_k(
            num_edges_per_user, diffusion.num_items, 'num_edges_per_user'
        )
        self.sampling_steps = check_int('sampling_steps', sampling_steps, 0)
        self.sampling_noise = check_bool('sampling_noise', sampling_noise)

    def fit(
        self,
        data: HeteroData,
        item_emb: Tensor | None = None,
        modality_emb_dict: Mapping[str, Tensor] | None = None,
        embedding_dim: int = 64,
        num_epochs: int = 20,
        batch_size: int = 1024,
        lr: float = 1e-3,
        msi_weight: float = 0.1,
        progress: bool = False,
    ) -> ModalityAwareGraphDiffusion:
        r"""Trains the denoisers on their own, without the rest of DiffMM.

        Where no embeddings are given, those of items are the leading right
        singular vectors of the normalised interactions (scaled by the roots
        of their singular values), and those of a modality the ridge
        regression of these on its features.

        Args:
            data (HeteroData): The user-item graph with item features.
            item_emb (torch.Tensor, optional): The item embeddings
                :math:`\mathbf{E}_i`. (default: :obj:`None`)
            modality_emb_dict (dict[str, torch.Tensor], optional): The
                projected features :math:`\mathbf{F}_m` of each modality.
                (default: :obj:`None`)
            embedding_dim (int, optional): The size of embeddings that are not
                given. (default: :obj:`64`)
            num_epochs (int, optional): The number of passes over users.
                (default: :obj:`20`)
            batch_size (int, optional): The number of users a step.
                (default: :obj:`1024`)
            lr (float, optional): The learning rate of Adam.
                (default: :obj:`1e-3`)
            msi_weight (float, optional): The weight of the modality-aware
                signal injection. (default: :obj:`0.1`)
            progress (bool, optional): Whether to show a progress bar.
                (default: :obj:`False`)

        Shapes:
            - **item_emb:** :math:`(|\mathcal{I}|, F)`
            - **modality_emb_dict:** :math:`(|\mathcal{I}|, F)`

        Returns:
            The transform itself.
        """
        check_int('embedding_dim', embedding_dim)
        check_int('num_epochs', num_epochs)
        check_int('batch_size', batch_size)
        check_number('lr', lr, 0.0, low_open=True)
        check_number('msi_weight', msi_weight, 0.0)
        check_trainable('diffusion', self.diffusion)
        edge_index, num_users = self._interactions(data)
        if edge_index.size(1) == 0:
            raise ValueError(
                "'data' needs at least one interaction to fit to (got none)"
            )
        num_items = self.diffusion.num_items
        like = next(self.diffusion.parameters())
        interactions = ItemLists.distinct_items(
            edge_index.to(like.device), num_users, num_items
        )
        edge_index = torch.stack([interactions.row, interactions.item])

        if item_emb is None:
            item_emb = _spectral_item_emb(
                edge_index, num_users, num_items, embedding_dim
            )
        item_emb = check_matrix('item_emb', item_emb, num_items).to(like)
        if modality_emb_dict is None:
            features = modality_features(
                data[self.edge_type[2]], num_items, self.diffusion.modalities
            )
            modality_emb_dict = {
                m: _ridge(x.to(item_emb.device), item_emb)
                for m, x in features.items()
            }
        check_keys(
            'modality_emb_dict', modality_emb_dict, self.diffusion.modalities
        )
        modality_emb_dict = {
            m: check_matrix(
                f"modality_emb_dict['{m}']",
                modality_emb_dict[m],
                num_items,
                item_emb.size(1),
            ).to(like)
            for m in self.diffusion.modalities
        }

        optimizer = Adam(self.diffusion.parameters(), lr=lr)
        for _ in _epochs(num_epochs, progress):
            train_diffusion_epoch(
                self.diffusion,
                optimizer,
                interactions,
                item_emb,
                modality_emb_dict,
                msi_weight,
                batch_size,
            )
        return self

    def forward(self, data: HeteroData) -> HeteroData:
        edge_index, num_users = self._interactions(data)
        device = next(self.diffusion.parameters()).device
        for m in self.diffusion.modalities:
            generated = self.diffusion.sample_edges(
                m,
                edge_index.to(device),
                num_users,
                self.num_edges_per_user,
                self.sampling_steps,
                self.sampling_noise,
            )
            user, _, item = self.edge_type
            data[user, f'denoised_{m}', item].edge_index = generated.to(
                edge_index.device
            )
        return data

    def _interactions(self, data: HeteroData) -> tuple[Tensor, int]:
        if not isinstance(data, HeteroData):
            raise ValueError(
                f"'data' needs to be a HeteroData (got {type(data).__name__})"
            )
        if self.edge_type not in data.edge_types:
            raise ValueError(
                f"'data' needs edges of type {self.edge_type} "
                f'(got {data.edge_types})'
            )
        user, _, item = self.edge_type
        num_users, num_items = data[user].num_nodes, data[item].num_nodes
        if not num_users:
            raise ValueError(
                f"'data' needs nodes of type '{user}' (got {num_users})"
            )
        if num_items != self.diffusion.num_items:
            raise ValueError(
                f"'data' needs {self.diffusion.num_items} nodes "
                f"of type '{item}', as 'diffusion' was made for "
                f'(got {num_items})'
            )
        store: Any = data[self.edge_type]
        # `T.ToSparseTensor` leaves `adj_t` in place of `edge_index`.
        adj = store.adj_t if 'adj_t' in store else store.get('edge_index')
        row, col, _ = to_coo(adj, (num_users, num_items))
        return torch.stack([row, col]), num_users

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.diffusion}, '
            f'num_edges_per_user={self.num_edges_per_user})'
        )


def _epochs(num_epochs: int, progress: bool) -> Sequence[int]:
    epochs = range(num_epochs)
    if not progress:
        return epochs
    from tqdm.auto import tqdm

    bar: Sequence[int] = tqdm(epochs, desc='Diffusion', leave=False)
    return bar


def _spectral_item_emb(
    edge_index: Tensor,
    num_users: int,
    num_items: int,
    embedding_dim: int,
) -> Tensor:
    user, item = edge_index
    user_degree = torch.bincount(user, minlength=num_users).float()
    item_degree = torch.bincount(item, minlength=num_items).float()
    value = (user_degree[user] * item_degree[item]).rsqrt()
    matrix = torch.sparse_coo_tensor(
        edge_index, value, (num_users, num_items), check_invariants=False
    )
    rank = min(embedding_dim, num_users, num_items)
    _, scale, emb = torch.svd_lowrank(matrix.coalesce(), q=rank, niter=4)
    return emb * scale.sqrt()


def _ridge(x: Tensor, target: Tensor) -> Tensor:
    # Not in half precision, and of any scale: squares stay finite.
    dtype = torch.promote_types(target.dtype, torch.float)
    x, target = x.to(dtype), target.to(dtype)
    x = x / x.abs().amax().clamp(min=torch.finfo(x.dtype).tiny)
    x = x - x.mean(dim=0)
    gram = x.t() @ x
    gram.diagonal().add_(1e-2 * gram.diagonal().mean().clamp(min=1e-6))
    solution: Tensor = torch.linalg.solve(gram, x.t() @ target)
    return x @ solution
