from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import ModuleDict
from torch.optim import Optimizer

from diffmm_geo.nn.diffusion.denoiser import Denoiser
from diffmm_geo.nn.diffusion.edge_sampling import sampled_edges
from diffmm_geo.nn.diffusion.gaussian_diffusion import GaussianDiffusion
from diffmm_geo.nn.diffusion.interaction_diffusion import InteractionDiffusion
from diffmm_geo.nn.diffusion.list_loss import (
    check_lists,
    list_loss,
    step_table,
)
from diffmm_geo.nn.diffusion.masked_diffusion import MaskedDiffusion
from diffmm_geo.nn.diffusion.masked_interaction_diffusion import (
    MaskedInteractionDiffusion,
)
from diffmm_geo.nn.pretrained import Pretrained, module_name
from diffmm_geo.sparse import CSR
from diffmm_geo.utils.checks import (
    check_bool,
    check_choice,
    check_edge_index,
    check_index,
    check_int,
    check_k,
    check_modalities,
    check_type,
)
from diffmm_geo.utils.finite import FiniteLosses

T = TypeVar('T', bound='ModalityDiffusion')

# The diffusion of one modality, by likelihood.
PARTS: dict[str, type[InteractionDiffusion]] = {
    'gaussian': InteractionDiffusion,
    'multinomial': MaskedInteractionDiffusion,
}


class ModalityDiffusion(Pretrained):
    r"""The multi-modal graph diffusion of the `"DiffMM: Multi-Modal
    Diffusion Model for Recommendation" <https://arxiv.org/abs/2406.11781>`_
    paper (Section 3.2). For each modality, :obj:`diffusion[modality]` is an
    :class:`~diffmm_geo.nn.InteractionDiffusion` with its own denoiser. All
    modalities share one diffusion process. With a
    :class:`~diffmm_geo.nn.MaskedDiffusion`, they are each a
    :class:`~diffmm_geo.nn.MaskedInteractionDiffusion`, whose likelihood is
    multinomial.

    Args:
        num_items (int): The number of items :math:`I`.
        modalities (list[str]): The names of the modalities.
        diffusion (GaussianDiffusion or MaskedDiffusion, optional): The
            diffusion process.
            (default: :class:`GaussianDiffusion` with its defaults)
        **denoiser_kwargs (optional): Additional arguments of
            :class:`~diffmm_geo.nn.Denoiser`.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import torch
        >>> from diffmm_geo.nn import ModalityDiffusion
        >>> diffusion = ModalityDiffusion(6, ['image'], hidden_channels=8)
        >>> a_0 = torch.eye(3, 6)
        >>> item_emb, image_emb = torch.randn(6, 4), torch.randn(6, 4)
        >>> elbo, msi = diffusion.loss('image', a_0, item_emb, image_emb)
        >>> (elbo.mean() + 0.1 * msi.mean()).backward()
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
        self.diffusion = diffusion = diffusion or GaussianDiffusion()
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
        }

    @classmethod
    def from_config(cls: type[T], config: Mapping[str, Any]) -> T:
        config = dict(config)
        process = PARTS[config.pop('likelihood')].process
        config['diffusion'] = process(**config['diffusion'])
        return cls(**config)

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

    def loss(
        self,
        modality: str,
        x_start: Tensor,
        item_emb: Tensor,
        modality_emb: Tensor,
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
                  without dropout, and with it in the limit of many items.
                - :obj:`"auto"`: uses the cheaper of these two forms for each
                  layer. With dropout, it uses :obj:`"gram"` for the first layer
                  only if there are many items.
                - :obj:`"sampled"`: a cheaper unbiased estimate. Users share
                  rows of noise. The square of the output is computed only for a
                  sample of users, drawn in proportion to their weight in the
                  loss.

                With a :class:`~diffmm_geo.nn.MaskedDiffusion`,
                :obj:`"sampled"` estimates sums over items from those of the
                batch and a sample of others, and all other forms are the same.
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
        highest in :meth:`sample`. Without noise and row normalization, the
        process runs on hidden states.

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
        model, limit = self[modality], self.num_items
        device, lists = model.denoiser.item_weight.device, edge_index
        if not isinstance(lists, CSR):
            size = check_int('num_users', num_users, 0), self.num_items
            lists = check_edge_index('edge_index', lists, *size, device)
            lists = CSR.from_edge_index(lists, size, coalesce=True)
        sampling_steps = check_int('sampling_steps', sampling_steps, 0)
        check_bool('sampling_noise', sampling_noise)
        check_bool('exclude_observed', exclude_observed)
        if candidates is not None:
            candidates = check_index('candidates', candidates, limit, device)
            limit = candidates.numel()
        k = check_k(num_edges_per_user, limit, 'num_edges_per_user')
        options = candidates, exclude_observed, sampling_steps, sampling_noise
        return sampled_edges(model, lists, k, *options)

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
        tables = {m: step_table(part) for m, part in parts.items()}
        args = {
            m: (item_emb, x, msi_weight, form)
            for m, x in modality_emb_dict.items()
        }
        for m, part in parts.items():
            check_lists(part, interactions, *args[m])
        num_users, device = interactions.size[0], item_emb.device
        order = torch.randperm(num_users, device=device)
        names, weights = [f'diffusion_{m}' for m in parts], []
        finite = FiniteLosses(names, -(-num_users // batch_size))
        for _, batch in interactions.take(order).blocks(batch_size):
            losses = []
            # Only one denoiser at a time holds gradients.
            for m, part in parts.items():
                optimizer.zero_grad()
                elbo, msi = list_loss(part, batch, *args[m], None, tables[m])
                loss = elbo.add(msi, alpha=msi_weight).mean()
                # Under autocast, gradients would be cast again.
                with torch.autocast(device.type, enabled=False):
                    loss.backward()
                optimizer.step()
                # Autocast would go on with the weights it has cast before.
                torch.clear_autocast_cache()
                losses.append(loss.detach())
            weights.append(batch.size[0] / num_users)
            finite.add(torch.stack(losses))
            if on_step is not None:
                on_step()
        optimizer.zero_grad()  # Frees as much memory as the denoisers take.
        return dict(zip(modality_emb_dict, finite.means(weights).values()))

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({self.num_items}, {self.modalities})'
