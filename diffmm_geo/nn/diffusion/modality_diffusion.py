from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import ModuleDict
from torch.optim import Optimizer

from diffmm_geo.nn.diffusion.denoiser import Denoiser
from diffmm_geo.nn.diffusion.denoiser_epoch import train_parts
from diffmm_geo.nn.diffusion.edge_sampling import sample_edges
from diffmm_geo.nn.diffusion.gaussian_diffusion import GaussianDiffusion
from diffmm_geo.nn.diffusion.interaction_diffusion import InteractionDiffusion
from diffmm_geo.nn.diffusion.list_loss import (
    check_lists,
    list_loss,
)
from diffmm_geo.nn.diffusion.masked_diffusion import MaskedDiffusion
from diffmm_geo.nn.diffusion.masked_interaction_diffusion import (
    MaskedInteractionDiffusion,
)
from diffmm_geo.nn.diffusion.new_items import with_new_items
from diffmm_geo.nn.diffusion.unobserved_items import place_unobserved
from diffmm_geo.nn.pretrained import Pretrained, module_name
from diffmm_geo.sparse import CSR
from diffmm_geo.utils.checks import (
    check_choice,
    check_index,
    check_int,
    check_keys,
    check_matrix,
    check_modalities,
    check_type,
)

T = TypeVar('T', bound='ModalityDiffusion')

# The diffusion of one modality, by likelihood.
PARTS: dict[str, type[InteractionDiffusion]] = {
    'gaussian': InteractionDiffusion,
    'multinomial': MaskedInteractionDiffusion,
}


class ModalityDiffusion(Pretrained):
    r"""The multi-modal graph diffusion of the `"DiffMM: Multi-Modal
    Diffusion Model for Recommendation" <https://arxiv.org/abs/2406.11781>`_
    paper (Section 3.2), with a denoiser for each modality. All modalities share
    one diffusion process. With a :class:`~diffmm_geo.nn.MaskedDiffusion`,
    :obj:`diffusion[modality]` is a
    :class:`~diffmm_geo.nn.MaskedInteractionDiffusion`, whose denoiser sees the
    features of items that :meth:`set_features` gives it. With a
    :class:`~diffmm_geo.nn.GaussianDiffusion`, it is the paper's
    :class:`~diffmm_geo.nn.InteractionDiffusion`, which knows the modality by
    the MSI term of the loss alone; see :meth:`paper`.

    Args:
        num_items (int): The number of items :math:`I`.
        modalities (list[str]): The names of the modalities.
        diffusion (MaskedDiffusion or GaussianDiffusion, optional): The
            diffusion process.
            (default: :class:`MaskedDiffusion` with its defaults)
        **denoiser_kwargs (optional): Additional arguments of
            :class:`~diffmm_geo.nn.Denoiser`. For a masked process, the
            defaults are :obj:`hidden_channels=200`, :obj:`dropout=0.0` and
            :obj:`feature_channels=-1`.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import torch
        >>> from diffmm_geo.nn import ModalityDiffusion
        >>> diffusion = ModalityDiffusion(6, ['image'], hidden_channels=8)
        >>> diffusion.set_features({'image': torch.randn(6, 16)})
        >>> a_0 = torch.eye(3, 6)
        >>> nll, _ = diffusion.loss('image', a_0)
        >>> nll.mean().backward()
        >>> edge_index = a_0.nonzero().t()
        >>> diffusion.sample_edges('image', edge_index, 3, 2).size()
        torch.Size([2, 6])
    """

    def __init__(
        self,
        num_items: int,
        modalities: Sequence[str],
        diffusion: GaussianDiffusion | MaskedDiffusion | None = None,
        **denoiser_kwargs: Any,
    ) -> None:
        super().__init__()
        self.num_items = check_int('num_items', num_items)
        self.modalities = check_modalities(modalities)
        self.diffusion = diffusion = diffusion or MaskedDiffusion()
        is_masked = isinstance(diffusion, MaskedDiffusion)
        self.likelihood = 'multinomial' if is_masked else 'gaussian'
        part = PARTS[self.likelihood]
        check_type('diffusion', diffusion, part.process)
        kwargs = {**part.denoiser_defaults, **denoiser_kwargs}
        self._denoisers = ModuleDict(
            {
                module_name(m): Denoiser(num_items, **kwargs)
                for m in self.modalities
            }
        )

    @classmethod
    def paper(
        cls: type[T], num_items: int, modalities: Sequence[str], **kwargs: Any
    ) -> T:
        r"""The diffusion of the paper: a Gaussian process, and denoisers that
        see no features, of hidden size :obj:`1000`.

        Args:
            num_items (int): The number of items.
            modalities (list[str]): The names of the modalities.
            **kwargs (optional): Other arguments, which take precedence.
        """
        kwargs.setdefault('diffusion', GaussianDiffusion())
        return cls(num_items, modalities, **kwargs)

    @property
    def config(self) -> dict[str, Any]:
        denoiser, process = self.denoisers[self.modalities[0]], self.diffusion
        known = PARTS[self.likelihood].process
        if type(process) is not known:
            raise ValueError(
                f"'diffusion' needs to be a {known.__name__} to be saved "
                f'(got {type(process).__name__})'
            )
        names = 'hidden_channels', 'time_channels', 'dropout', 'normalize'
        return {
            'num_items': self.num_items,
            'modalities': self.modalities,
            'likelihood': self.likelihood,
            'diffusion': process.config,
            **{name: getattr(denoiser, name) for name in names},
            'feature_channels': {
                m: x.feature_channels for m, x in self.denoisers.items()
            },
        }

    @classmethod
    def from_config(cls: type[T], config: Mapping[str, Any]) -> T:
        config = dict(config)
        process = PARTS[config.pop('likelihood')].process
        config['diffusion'] = process(**config['diffusion'])
        channels = config.pop('feature_channels')
        takes_none = all(c is None for c in channels.values())
        out = cls(**config, feature_channels=None if takes_none else -1)
        for m, c in channels.items():
            if c is not None and c != -1:
                out[m].denoiser.add_features(c)
        return out

    @property
    def denoisers(self) -> dict[str, Denoiser]:
        r"""The denoiser of each modality."""
        return {m: self[m].denoiser for m in self.modalities}

    def __getitem__(self, modality: str) -> InteractionDiffusion:
        r"""The diffusion of a modality, with shared parameters."""
        check_choice('modality', modality, self.modalities)
        denoiser = self._denoisers[module_name(modality)]
        assert isinstance(denoiser, Denoiser)
        return PARTS[self.likelihood](self.num_items, self.diffusion, denoiser)

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters of the module."""
        for denoiser in self.denoisers.values():
            denoiser.reset_parameters()

    @property
    def takes_features(self) -> bool:
        r"""Whether the denoisers see features."""
        return self.denoisers[self.modalities[0]].takes_features

    @property
    def has_features(self) -> bool:
        r"""Whether the denoisers have features."""
        return self.denoisers[self.modalities[0]].num_channels is not None

    def set_features(
        self,
        feature_dict: Mapping[str, Tensor],
        observed: Tensor | None = None,
    ) -> None:
        r"""Sets the item features of each modality, which are saved with the
        denoisers. An optimizer needs to be made afterwards.

        Args:
            feature_dict (dict[str, torch.Tensor]): The raw features.
            observed (torch.Tensor, optional): Which items have observed
                interactions. The others are known by their features alone.
                (default: :obj:`None`, all, as if none has)

        Shapes:
            - **feature_dict:** :math:`(I, C_m)`
            - **observed:** :math:`(I)`, of type :obj:`torch.bool`

        Raises:
            ValueError: If features do not fit, or denoisers take none.
        """
        check_keys('feature_dict', feature_dict, self.modalities)
        for m, denoiser in self.denoisers.items():
            name, x = f"feature_dict['{m}']", feature_dict[m]
            check_matrix(name, x, self.num_items, denoiser.num_channels)
        device = next(self.parameters()).device
        for m, denoiser in self.denoisers.items():
            denoiser.set_features(feature_dict[m].to(device), observed)

    def place_unobserved(self, interactions: CSR) -> None:
        r"""Gives the items without observed interactions rows of the last
        layer by their features, and a bias of how likely a first interaction
        is. Trainers and transforms call it after training.

        Args:
            interactions (CSR): The items of each user.
        """
        check_type('interactions', interactions, CSR)
        check_index('interactions', interactions.col, self.num_items)
        for m in self.modalities:
            part = self[m]
            if isinstance(part, MaskedInteractionDiffusion):
                place_unobserved(part, interactions)

    def with_new_items(
        self: T, feature_dict: Mapping[str, Tensor], interactions: CSR
    ) -> T:
        r"""A copy that knows new items, too, by their features alone.

        Args:
            feature_dict (dict[str, torch.Tensor]): The raw features of the new
                items, which follow the known ones.
            interactions (CSR): The known items of each user, as in
                :meth:`place_unobserved`.

        Shapes:
            - **feature_dict:** :math:`(N, C_m)`

        Raises:
            ValueError: If features or interactions do not fit, or denoisers
                have no features.
        """
        return with_new_items(self, feature_dict, interactions)  # type: ignore

    def loss(
        self,
        modality: str,
        x_start: Tensor,
        item_emb: Tensor | None = None,
        modality_emb: Tensor | None = None,
        msi_weight: float | None = None,
        t: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        r"""See :meth:`diffmm_geo.nn.InteractionDiffusion.loss`."""
        args = x_start, item_emb, modality_emb, msi_weight, t, noise
        return self[modality].loss(*args)

    def batch_loss(
        self,
        modality: str,
        interactions: CSR,
        item_emb: Tensor,
        modality_emb: Tensor,
        msi_weight: float | None = None,
        form: str = 'auto',
    ) -> tuple[Tensor, Tensor]:
        r"""Computes the terms of :meth:`loss` from lists of interactions.
        Autocast sets the data type of products.

        Args:
            modality (str): The modality.
            interactions (CSR): The items of each user of the batch.
            item_emb (torch.Tensor): As in :meth:`loss`.
            modality_emb (torch.Tensor): As in :meth:`loss`.
            msi_weight (float, optional): As in :meth:`loss`.
            form (str, optional): How to compute the products with all items.

                - :obj:`"dense"`: the equations as written.
                - :obj:`"gram"`: uses Gram matrices of the first and the last
                  layer instead of a matrix of users and items. This is exact
                  without dropout, and with it in the limit of many items. A
                  masked diffusion has no such form.
                - :obj:`"sampled"`: a cheaper unbiased estimate. Users share
                  rows of noise, and the square of the output is computed for a
                  sample of users. If masked, the sum of the softmax is
                  estimated from the items of the batch and 2,048 others.
                - :obj:`"auto"`: the cheaper of the first two for each layer, or
                  :obj:`"sampled"` if masked and of more than 20,000 items.

                (default: :obj:`"auto"`)
        """
        model = self[modality]
        msi_weight = model.msi_weight if msi_weight is None else msi_weight
        args = interactions, item_emb, modality_emb, msi_weight, form
        check_lists(model, *args)
        return list_loss(model, *args)

    def sample(
        self,
        modality: str,
        x_start: Tensor,
        sampling_steps: int = 0,
        sampling_noise: bool = False,
    ) -> Tensor:
        r"""See :meth:`diffmm_geo.nn.InteractionDiffusion.sample`."""
        return self[modality].sample(x_start, sampling_steps, sampling_noise)

    @torch.no_grad()
    def sample_edges(
        self,
        modality: str,
        edge_index: Tensor | CSR,
        num_users: int | None = None,
        num_edges_per_user: int = 1,
        sampling_steps: int = 0,
        sampling_noise: bool = False,
        candidates: Tensor | None = None,
        exclude_observed: bool = False,
    ) -> Tensor:
        r"""Generates interactions of each user with the items that score
        highest in :meth:`sample`.

        Args:
            modality (str): The modality.
            edge_index (torch.Tensor or CSR): The observed interactions, row 0
                users, row 1 items, or the distinct items of each user.
            num_users (int, optional): The number of users, which a
                :class:`~diffmm_geo.sparse.CSR` holds already.
                (default: :obj:`None`)
            num_edges_per_user (int, optional): The number :math:`k` of
                interactions to generate for each user. (default: :obj:`1`)
            sampling_steps (int, optional): As in :meth:`sample`.
            sampling_noise (bool, optional): As in :meth:`sample`.
            candidates (torch.Tensor, optional): The distinct items to choose
                from. (default: :obj:`None`, all items)
            exclude_observed (bool, optional): Whether to generate only
                interactions that are not observed. A user with fewer than
                :math:`k` items to choose from gets fewer.
                (default: :obj:`False`)

        Shapes:
            - **edge_index:** :math:`(2, |\mathcal{E}|)`
            - **candidates:** :math:`(C)`
            - **output:** :math:`(2, |\mathcal{U}| \cdot k)`, sorted by user,
              then by descending score
        """
        return sample_edges(
            *(self[modality], edge_index, num_users, num_edges_per_user),
            *(candidates, exclude_observed, sampling_steps, sampling_noise),
        )

    def train_epoch(
        self,
        optimizer: Optimizer,
        interactions: CSR,
        item_emb: Tensor,
        modality_emb_dict: Mapping[str, Tensor],
        msi_weight: float | None = None,
        batch_size: int = 1024,
        form: str = 'auto',
        on_step: Callable[[], None] | None = None,
    ) -> dict[str, float]:
        r"""Trains denoisers for one pass over all users.

        Args:
            optimizer (torch.optim.Optimizer): The optimizer of the denoisers.
            interactions (CSR): The items of each user.
            item_emb (torch.Tensor): As in :meth:`loss`.
            modality_emb_dict (dict[str, torch.Tensor]): The projected features
                of each modality to train.
            msi_weight (float, optional): As in :meth:`loss`.
            batch_size (int, optional): The number of users per step.
                (default: :obj:`1024`)
            form (str, optional): As in :meth:`batch_loss`.
                (default: :obj:`"auto"`)
            on_step (callable, optional): Called after each step.
                (default: :obj:`None`)

        Returns:
            The mean loss of each modality.

        Raises:
            NonFiniteLossError: If a loss is infinite or not a number.
        """
        self.train()
        default = PARTS[self.likelihood].msi_weight
        msi_weight = default if msi_weight is None else msi_weight
        parts = {m: self[m] for m in modality_emb_dict}
        for m, x in modality_emb_dict.items():
            check_lists(parts[m], interactions, item_emb, x, msi_weight, form)
        return train_parts(
            *(parts, optimizer, interactions, item_emb, modality_emb_dict),
            *(msi_weight, batch_size, form, on_step),
        )

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({self.num_items}, {self.modalities})'
