from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform
from torch_geometric.typing import EdgeType

from diffmm_geo.nn import ModalityDiffusion
from diffmm_geo.nn.diffusion.edge_sampling import default_num_edges
from diffmm_geo.sparse import CSR
from diffmm_geo.transforms.held_out_stop import HeldOutStop, hold_out
from diffmm_geo.transforms.spectral_embedding import (
    ridge_regression,
    spectral_embedding,
)
from diffmm_geo.utils.checks import (
    check_bool,
    check_edge_type,
    check_int,
    check_k,
    check_keys,
    check_matrix,
    check_number,
    check_trainable,
    check_type,
    check_unweighted,
)
from diffmm_geo.utils.extras import check_package
from diffmm_geo.utils.features import modality_features
from diffmm_geo.utils.interactions import count_nodes, observed_edges


@functional_transform('modality_aware_graph_diffusion')
class ModalityAwareGraphDiffusion(BaseTransform):
    r"""Adds generated interactions of each modality :obj:`m` as edges of type
    :obj:`(user, f'denoised_{m}', item)`, with the multi-modal graph diffusion
    of the `"DiffMM: Multi-Modal Diffusion Model for Recommendation"
    <https://arxiv.org/abs/2406.11781>`_ paper (Section 3.2)
    (functional name: :obj:`modality_aware_graph_diffusion`).

    Args:
        diffusion (ModalityDiffusion): The denoisers, trained with DiffMM or
            with :meth:`fit`.
        edge_type (tuple[str, str, str], optional): The edge type of observed
            interactions. (default: :obj:`('user', 'interacts', 'item')`)
        num_edges_per_user (int, optional): The number of interactions to
            generate for each user. (default: :obj:`None`, five, or as many as
            there are items)
        sampling_steps (int, optional): The number of forward steps before the
            reverse process. (default: :obj:`0`)
        sampling_noise (bool, optional): Whether to add posterior noise.
            (default: :obj:`False`)
        exclude_observed (bool, optional): Whether to generate only interactions
            that are not observed. (default: :obj:`True`)

    The defaults are those of :class:`~diffmm_geo.nn.ModalityDiffusion` and of
    :class:`~diffmm_geo.training.DiffMMConfig`: a masked diffusion whose
    denoisers see the features. :meth:`paper` has those of the paper.

    Raises:
        ValueError: If an argument is out of range, or the graph does not fit
            the denoisers.

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
        num_edges_per_user: int | None = None,
        sampling_steps: int = 0,
        sampling_noise: bool = False,
        exclude_observed: bool = True,
    ) -> None:
        check_type('diffusion', diffusion, ModalityDiffusion)
        self.diffusion = diffusion
        self.edge_type = check_edge_type(edge_type)
        if num_edges_per_user is None:
            num_edges_per_user = default_num_edges(diffusion.num_items)
        self.num_edges_per_user = check_k(
            num_edges_per_user, diffusion.num_items, 'num_edges_per_user'
        )
        self.sampling_steps = check_int('sampling_steps', sampling_steps, 0)
        self.sampling_noise = check_bool('sampling_noise', sampling_noise)
        self.exclude_observed = check_bool('exclude_observed', exclude_observed)

    @classmethod
    def paper(
        cls, diffusion: ModalityDiffusion, **kwargs: Any
    ) -> ModalityAwareGraphDiffusion:
        r"""The transform of the paper: one generated interaction for each
        user, which may be an observed one. The diffusion of the paper is
        :meth:`ModalityDiffusion.paper <diffmm_geo.nn.ModalityDiffusion.paper>`.

        Args:
            diffusion (ModalityDiffusion): The denoisers.
            **kwargs (optional): Other arguments, which take precedence.
        """
        settings: dict[str, Any] = {
            'num_edges_per_user': 1,
            'exclude_observed': False,
        }
        return cls(diffusion, **{**settings, **kwargs})

    def fit(
        self,
        data: HeteroData,
        item_emb: Tensor | None = None,
        modality_emb_dict: Mapping[str, Tensor] | None = None,
        embedding_dim: int = 64,
        num_epochs: int | None = None,
        batch_size: int = 256,
        lr: float = 3e-3,
        msi_weight: float | None = None,
        patience: int = 10,
        progress: bool = False,
    ) -> ModalityAwareGraphDiffusion:
        r"""Trains the denoisers alone, without the rest of DiffMM, on the
        features of the items. Returns the transform itself.

        Without a number of epochs, one interaction of each of up to 2,048 users
        is held out of training. The Recall@20 of these interactions decides for
        each denoiser how long it trains, and which weights it keeps.

        Args:
            data (HeteroData): The user-item graph with item features.
            item_emb (torch.Tensor, optional): The item embeddings
                :math:`\mathbf{E}_i` of the MSI term. (default: :obj:`None`, the
                leading right singular vectors of the normalized interactions,
                scaled by the square roots of the singular values)
            modality_emb_dict (dict[str, torch.Tensor], optional): The
                projected features :math:`\mathbf{F}_m` of each modality in the
                MSI term. (default: :obj:`None`, the ridge regression of the
                item embeddings on the standardized features)
            embedding_dim (int, optional): The size of the default embeddings.
                (default: :obj:`64`)
            num_epochs (int, optional): The number of passes over users.
                (default: :obj:`None`, until the recall of held-out
                interactions no longer grows)
            batch_size (int, optional): The number of users per step.
                (default: :obj:`256`)
            lr (float, optional): The learning rate of Adam.
                (default: :obj:`3e-3`)
            msi_weight (float, optional): The weight of the MSI term.
                (default: :obj:`0.1`, or :obj:`0.0` if masked)
            patience (int, optional): The number of epochs without a higher
                recall after which a denoiser stops. (default: :obj:`10`)
            progress (bool, optional): Whether to show a progress bar.
                (default: :obj:`False`)

        Shapes:
            - **item_emb, modality_emb_dict:** :math:`(|\mathcal{I}|, F)`

        Raises:
            ValueError: If an argument is out of range, or if no user has two
                interactions, one of which could be held out.
        """
        embedding_dim = check_int('embedding_dim', embedding_dim)
        if num_epochs is not None:
            num_epochs = check_int('num_epochs', num_epochs)
        batch_size = check_int('batch_size', batch_size)
        patience = check_int('patience', patience)
        lr = check_number('lr', lr, 0.0, low_open=True)
        edge_index, num_users = self._interactions(data)
        diffusion, num_items = self.diffusion, self.diffusion.num_items
        check_trainable('diffusion', diffusion)
        if edge_index.size(1) == 0:
            raise ValueError(
                "'data' needs at least one interaction to train on (got none)"
            )
        like = next(diffusion.parameters())
        size, edge_index = (num_users, num_items), edge_index.to(like.device)
        lists = CSR.from_edge_index(edge_index, size, coalesce=True)
        held_out = None
        if num_epochs is None:
            lists, held_out = hold_out(lists)
        features = {}
        if diffusion.takes_features or modality_emb_dict is None:
            features = modality_features(
                data[self.edge_type[2]], num_items, diffusion.modalities
            )
        if msi_weight is None:
            msi_weight = diffusion[diffusion.modalities[0]].msi_weight
        msi_weight = check_number('msi_weight', msi_weight, 0.0)
        if msi_weight == 0 and item_emb is None and modality_emb_dict is None:
            # The MSI term, which alone reads them, is left out.
            item_emb = like.new_empty(num_items, 0)
            modality_emb_dict = dict.fromkeys(diffusion.modalities, item_emb)
        if item_emb is None:
            item_emb = spectral_embedding(lists, embedding_dim)
        item_emb = check_matrix('item_emb', item_emb, num_items).to(like)
        if modality_emb_dict is None:
            modality_emb_dict = {
                m: ridge_regression(x.to(like.device), item_emb)
                for m, x in features.items()
            }
        check_keys('modality_emb_dict', modality_emb_dict, diffusion.modalities)
        emb_dict = {}
        for m in diffusion.modalities:
            name, x = f"modality_emb_dict['{m}']", modality_emb_dict[m]
            check_matrix(name, x, num_items, item_emb.size(1))
            emb_dict[m] = x.to(like)
        if diffusion.takes_features:
            observed = torch.bincount(lists.col, minlength=num_items) > 0
            diffusion.set_features(features, observed)

        fused = like.device.type in ('cpu', 'cuda')
        optimizer = Adam(diffusion.parameters(), lr=lr, fused=fused)
        stop = HeldOutStop(diffusion, lists, held_out, num_epochs, patience)
        epochs: Iterable[int] = stop.epochs()
        if progress:
            check_package('tqdm', 'examples', 'progress=True')
            from tqdm.auto import tqdm

            epochs = tqdm(epochs, 'Diffusion', total=num_epochs, leave=False)
        for _ in epochs:
            diffusion.train_epoch(
                *(optimizer, lists, item_emb),
                {m: emb_dict[m] for m in stop.modalities},
                *(msi_weight, batch_size),
            )
        diffusion.place_unobserved(lists)
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
                exclude_observed=self.exclude_observed,
            )
            user, _, item = self.edge_type
            data[user, f'denoised_{m}', item].edge_index = generated.to(
                edge_index.device
            )
        return data

    def _interactions(self, data: HeteroData) -> tuple[Tensor, int]:
        num_users, num_items = count_nodes(data, self.edge_type)
        if num_items != self.diffusion.num_items:
            raise ValueError(
                f"'data' needs {self.diffusion.num_items} nodes of type "
                f"'{self.edge_type[2]}' to fit 'diffusion' (got {num_items})"
            )
        store: Any = data[self.edge_type]
        check_unweighted(self.edge_type, store)
        return observed_edges(store, (num_users, num_items)), num_users

    def __repr__(self) -> str:
        # Tells a `pre_transform` from others.
        return (
            f'{self.__class__.__name__}({self.diffusion}, '
            f'edge_type={self.edge_type}, '
            f'num_edges_per_user={self.num_edges_per_user}, '
            f'sampling_steps={self.sampling_steps}, '
            f'sampling_noise={self.sampling_noise}, '
            f'exclude_observed={self.exclude_observed})'
        )
