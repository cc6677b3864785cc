from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import ModuleDict

from diffmm_geo.nn.diffusion.denoiser import Denoiser
from diffmm_geo.nn.diffusion.forms import FORMS, input_form, output_form
from diffmm_geo.nn.diffusion.gaussian_diffusion import GaussianDiffusion
from diffmm_geo.nn.diffusion.hidden_reverse import HiddenReverse
from diffmm_geo.nn.modality_name import module_name
from diffmm_geo.nn.pretrained import Pretrained
from diffmm_geo.ops import topk_items
from diffmm_geo.ops.bag import bag
from diffmm_geo.ops.block_size import block_size
from diffmm_geo.ops.diffused_linear import (
    diffused_linear_dense,
    diffused_linear_gram,
    diffused_linear_shared,
)
from diffmm_geo.ops.item_lists import ItemLists
from diffmm_geo.ops.product import compute_dtype, product
from diffmm_geo.ops.reconstruction import reconstruction
from diffmm_geo.ops.reconstruction.square import (
    DenseSquare,
    GramSquare,
    SampledSquare,
    Square,
)
from diffmm_geo.ops.row_streams import RowStreams, normal_
from diffmm_geo.utils.checks import (
    check_bool,
    check_choice,
    check_edge_index,
    check_index,
    check_int,
    check_k,
    check_matrix,
    check_matrix_like,
    check_modalities,
    check_number,
    check_same_device,
    check_type,
)

# Hidden states at a time on a CPU: 8 MiB in float32, which stays in cache.
BLOCK_SIZE = 2**21

# Rows of noise, and rows whose outputs are squared, a batch where users are
# sampled.
NUM_NOISES = 128
NUM_SAMPLES = 256

T = TypeVar('T', bound='ModalityDiffusion')


class ModalityDiffusion(Pretrained):
    r"""The multi-modal graph diffusion of the `"DiffMM: Multi-Modal
    Diffusion Model for Recommendation" <https://arxiv.org/abs/2406.11781>`_
    paper (Section 3.2): one denoiser a modality, over the users' rows of
    interactions :math:`\mathbf{a}_0 \in {\{ 0, 1 \}}^{I}`.

    Args:
        num_items (int): The number of items :math:`I`.
        modalities (list[str]): The names of the modalities.
        diffusion (GaussianDiffusion, optional): The diffusion process.
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
        diffusion: GaussianDiffusion | None = None,
        **denoiser_kwargs: Any,
    ) -> None:
        super().__init__()
        self.num_items = check_int('num_items', num_items)
        self.modalities = check_modalities(modalities)
        self.diffusion = GaussianDiffusion()
        if diffusion is not None:
            check_type('diffusion', diffusion, GaussianDiffusion)
            self.diffusion = diffusion
        self._denoisers = ModuleDict(
            {
                module_name(m): Denoiser(num_items, **denoiser_kwargs)
                for m in self.modalities
            }
        )

    @property
    def config(self) -> dict[str, Any]:
        denoiser = self._denoiser(self.modalities[0])
        # One with other steps would not be what is loaded.
        kind = type(self.diffusion)
        if kind is not GaussianDiffusion:
            raise ValueError(
                f"'diffusion' needs to be a GaussianDiffusion to be saved "
                f'(got {kind.__name__})'
            )
        return {
            'num_items': self.num_items,
            'modalities': self.modalities,
            'diffusion': {
                'num_steps': self.diffusion.num_steps,
                'noise_scale': self.diffusion.noise_scale,
                'noise_min': self.diffusion.noise_min,
                'noise_max': self.diffusion.noise_max,
            },
            'hidden_channels': denoiser.hidden_channels,
            'time_channels': denoiser.time_channels,
            'dropout': denoiser.dropout,
            'normalize': denoiser.normalize,
        }

    @classmethod
    def from_config(cls: type[T], config: Mapping[str, Any]) -> T:
        diffusion = GaussianDiffusion(**config['diffusion'])
        return cls(**{**config, 'diffusion': diffusion})

    @property
    def denoisers(self) -> dict[str, Denoiser]:
        r"""The denoiser of each modality."""
        return {m: self._denoiser(m) for m in self.modalities}

    def _denoiser(self, modality: str) -> Denoiser:
        check_choice('modality', modality, self.modalities)
        denoiser = self._denoisers[module_name(modality)]
        assert isinstance(denoiser, Denoiser)
        return denoiser

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
        msi_weight: float = 0.1,
        t: Tensor | None = None,
        noise: Tensor | None = None,
        streams: RowStreams | None = None,
    ) -> tuple[Tensor, Tensor]:
        r"""The two terms of the training objective for each user, the
        evidence lower bound and the modality-aware signal injection (MSI)

        .. math::
            \mathcal{L}_{\mathrm{elbo}} = \frac{w_t}{I} {\| \mathbf{a}_0 -
            \mathbf{\hat{a}}_0 \|}^2 \qquad
            \mathcal{L}_{\mathrm{msi}} = \frac{1}{F} {\| \mathbf{\hat{a}}_0
            \mathbf{F}_m - \mathbf{a}_0 \mathbf{E}_i \|}^2

        to be minimised as the mean of the first plus :obj:`msi_weight` times
        the mean of the second.

        Args:
            modality (str): The modality.
            x_start (torch.Tensor): The rows :math:`\mathbf{a}_0`.
            item_emb (torch.Tensor): The item embeddings
                :math:`\mathbf{E}_i`; gets no gradient.
            modality_emb (torch.Tensor): The projected features
                :math:`\mathbf{F}_m`; gets no gradient.
            msi_weight (float, optional): The weight that the MSI term will
                be given. The term comes back *without* it; at :obj:`0` it is
                not computed, and zero. (default: :obj:`0.1`)
            t (torch.Tensor, optional): The step of each row, uniform if not
                given. (default: :obj:`None`)
            noise (torch.Tensor, optional): The noise, standard normal if not
                given. (default: :obj:`None`)
            streams (RowStreams, optional): What random numbers are drawn from
                in place of the global stream. (default: :obj:`None`)

        Shapes:
            - **x_start:** :math:`(B, I)`
            - **item_emb:** :math:`(I, F)`
            - **modality_emb:** :math:`(I, F)`
            - **t:** :math:`(B)`
            - **noise:** :math:`(B, I)`
            - **output:** two vectors :math:`(B)`
        """
        denoiser = self._denoiser(modality)
        self._check_rows(denoiser, x_start)
        self._check_msi(denoiser, msi_weight, item_emb, modality_emb)
        if t is None:
            t = self._draw_steps(x_start.size(0), x_start.device, streams)
        else:
            t = self.diffusion._check_t(t, x_start.size(0))
        if noise is None:
            noise = normal_(torch.empty_like(x_start), streams)
        else:
            check_matrix_like('noise', noise, x_start, x_start.dtype)

        x_t = self.diffusion._diffuse(x_start, t, noise)
        out = denoiser(x_t, t, streams)

        elbo = F.mse_loss(out, x_start, reduction='none').mean(dim=-1)
        elbo = self.diffusion.elbo_weight[t].to(elbo.dtype) * elbo
        if msi_weight == 0:
            return elbo, torch.zeros_like(elbo)
        msi = F.mse_loss(
            out @ modality_emb.detach(),
            x_start @ item_emb.detach(),
            reduction='none',
        )
        return elbo, msi.mean(dim=-1)

    def batch_loss(
        self,
        modality: str,
        interactions: ItemLists,
        item_emb: Tensor,
        modality_emb: Tensor,
        msi_weight: float = 0.1,
        form: str = 'auto',
        t: Tensor | None = None,
        streams: RowStreams | None = None,
    ) -> tuple[Tensor, Tensor]:
        r"""The terms of :meth:`loss` from lists of interactions, as fast as
        there is a way to. Products are in the type of autocast.

        Args:
            modality (str): The modality.
            interactions (ItemLists): The items of each user of the batch.
            item_emb (torch.Tensor): As in :meth:`loss`.
            modality_emb (torch.Tensor): As in :meth:`loss`.
            msi_weight (float, optional): As in :meth:`loss`.
                (default: :obj:`0.1`)
            form (str, optional): How the products with all items are taken.

                - :obj:`"dense"`: as they are written.
                - :obj:`"gram"`: without a matrix of users and items, through
                  the Gram matrices of both layers. The output's error is the
                  same; the input's noise is drawn behind its layer, which is
                  exact without dropout and as the number of items grows.
                - :obj:`"auto"`: for each layer, the cheaper of these two,
                  where the second is as good as exact.
                - :obj:`"sampled"`: an unbiased estimate for a fraction of the
                  cost, whatever the hidden size: users share rows of noise,
                  and the squares of outputs are computed for a sample of
                  users, drawn by their weight in the loss.

                (default: :obj:`"auto"`)
            t (torch.Tensor, optional): As in :meth:`loss`.
                (default: :obj:`None`)
            streams (RowStreams, optional): As in :meth:`loss`. The
                interactions are those of its blocks, and how to draw depends
                on the size of the whole batch. (default: :obj:`None`)

        Shapes:
            - **item_emb:** :math:`(I, F)`
            - **modality_emb:** :math:`(I, F)`
            - **t:** :math:`(B)`
            - **output:** two vectors :math:`(B)`
        """
        denoiser, lists = self._denoiser(modality), interactions
        check_choice('form', form, FORMS)
        self._check_msi(denoiser, msi_weight, item_emb, modality_emb)
        check_type('interactions', lists, ItemLists)
        if not lists.item.is_cuda:  # Where it would wait for the device.
            check_index('interactions', lists.item, self.num_items)
        check_same_device(
            'interactions', lists.item, denoiser.item_weight.device
        )
        if denoiser.normalize:
            # The length of a diffused row is that of all its items.
            x_start = lists.dense(self.num_items, denoiser.item_weight)
            return self.loss(
                modality,
                x_start,
                item_emb,
                modality_emb,
                msi_weight,
                t,
                streams=streams,
            )
        if t is None:
            t = self._draw_steps(
                lists.num_rows, denoiser.item_weight.device, streams
            )
        else:
            t = self.diffusion._check_t(t, lists.num_rows)
            t = t.expand(lists.num_rows)
        weight, lin = denoiser.item_weight, denoiser.lin_out
        like = weight.dtype
        loss_weight = self.diffusion.elbo_weight[t].to(like)

        dropout = denoiser.dropout if denoiser.training else 0.0
        inputs = (
            lists,
            weight,
            self.diffusion.sqrt_alphas_cumprod[t].to(like),
            self.diffusion.sqrt_one_minus_alphas_cumprod[t].to(like),
            dropout,
        )
        num_items, hidden = weight.size()
        layer = form
        if form == 'auto':
            # What is drawn is not to depend on who draws it.
            num_rows = lists.num_rows if streams is None else streams.num_rows
            layer = input_form(num_rows, num_items, hidden, dropout)
        if layer == 'sampled':
            z = diffused_linear_shared(
                *inputs, num_noises=NUM_NOISES, streams=streams
            )
        elif layer == 'gram':
            z = diffused_linear_gram(*inputs, streams=streams)
        else:
            z = diffused_linear_dense(*inputs, streams=streams)
        h = denoiser.hidden(z, t).to(like)

        square: Square = DenseSquare()
        layer = form
        if form == 'auto':
            layer = output_form(lists.num_rows, num_items, h.size(1))
        if layer == 'sampled':
            square = SampledSquare(loss_weight, NUM_SAMPLES, streams)
        elif layer == 'gram':
            square = GramSquare()
        if msi_weight == 0:
            modality_emb = weight.new_empty(self.num_items, 0)
        error, projected = reconstruction(
            h, lin.weight, lin.bias, lists, modality_emb.detach(), square
        )
        elbo = loss_weight * error / self.num_items
        if msi_weight == 0:
            return elbo, torch.zeros_like(elbo)
        target = bag(lists, item_emb.detach())
        return elbo, F.mse_loss(projected, target, reduction='none').mean(-1)

    @torch.no_grad()
    def sample(
        self,
        modality: str,
        x_start: Tensor,
        sampling_steps: int = 0,
        sampling_noise: bool = False,
    ) -> Tensor:
        r"""Runs the reverse process on whole rows.

        Args:
            modality (str): The modality.
            x_start (torch.Tensor): The rows :math:`\mathbf{a}_0`.
            sampling_steps (int, optional): The number of steps by which rows
                are diffused first; at :obj:`0` the reverse process starts
                from the rows as they are. (default: :obj:`0`)
            sampling_noise (bool, optional): Whether to add posterior noise in
                every step but the last. (default: :obj:`False`)

        Shapes:
            - **x_start:** :math:`(B, I)`
            - **output:** :math:`(B, I)`, a score for every item
        """
        denoiser = self._denoiser(modality)
        self._check_rows(denoiser, x_start)
        self._check_steps(sampling_steps)
        check_bool('sampling_noise', sampling_noise)

        x_t = x_start
        if sampling_steps > 0:
            t = torch.tensor([sampling_steps - 1], device=x_start.device)
            x_t = self.diffusion._diffuse(x_start, t)

        training = denoiser.training
        denoiser.eval()  # No dropout.
        try:
            for step in reversed(range(self.diffusion.num_steps)):
                t = torch.tensor([step], device=x_start.device)
                x_t = self.diffusion.posterior_mean(denoiser(x_t, t), x_t, step)
                if sampling_noise and step > 0:
                    log_var = self.diffusion.posterior_log_variance_clipped
                    scale = (0.5 * log_var[step]).exp().to(x_t.dtype)
                    x_t = x_t + scale * torch.randn_like(x_t)
        finally:
            denoiser.train(training)
        return x_t

    @torch.no_grad()
    def sample_edges(
        self,
        modality: str,
        edge_index: Tensor,
        num_users: int,
        num_edges_per_user: int = 1,
        sampling_steps: int = 0,
        sampling_noise: bool = False,
        candidates: Tensor | None = None,
    ) -> Tensor:
        r"""Generates the interactions of every user: the items with the
        highest scores at the end of the reverse process, in chunks of users.

        Between its first and its last step, the process only ever reads
        :math:`\mathbf{z} = \mathbf{a} \mathbf{W}_{\mathrm{in}}`, and runs in
        hidden size: with :math:`\mathbf{h}` the hidden layer of
        :math:`\mathbf{z}`,

        .. math::
            \mathbf{z} \leftarrow c_1 \left( \mathbf{h} (
            \mathbf{W}_{\mathrm{out}} \mathbf{W}_{\mathrm{in}}) +
            \mathbf{b}_{\mathrm{out}} \mathbf{W}_{\mathrm{in}} \right) +
            c_2 \mathbf{z},

        and as :math:`c_1 = 1, c_2 = 0` in the last step, it ends in
        :math:`\mathbf{h} \mathbf{W}_{\mathrm{out}} +
        \mathbf{b}_{\mathrm{out}}`. This does not hold for noise over items
        (:obj:`sampling_steps`, :obj:`sampling_noise`) and normalised input,
        which go through :meth:`sample`.

        Args:
            modality (str): The modality.
            edge_index (torch.Tensor): The observed interactions, row 0 users,
                row 1 items.
            num_users (int): The number of users.
            num_edges_per_user (int, optional): The number :math:`k` of
                interactions to generate for each user. (default: :obj:`1`)
            sampling_steps (int, optional): As in :meth:`sample`.
                (default: :obj:`0`)
            sampling_noise (bool, optional): As in :meth:`sample`.
                (default: :obj:`False`)
            candidates (torch.Tensor, optional): The items to choose from,
                none twice, where to score all is too much.
                (default: :obj:`None`, all)

        Shapes:
            - **edge_index:** :math:`(2, |\mathcal{E}|)`
            - **candidates:** :math:`(C)`
            - **output:** :math:`(2, |\mathcal{U}| \cdot k)`, sorted by user,
              then by descending score
        """
        check_int('num_users', num_users, 0)
        edge_index = check_edge_index(
            'edge_index',
            edge_index,
            num_users,
            self.num_items,
            self._denoiser(modality).item_weight.device,
        )
        return self.sample_edges_of(
            modality,
            ItemLists.distinct_items(edge_index, num_users, self.num_items),
            num_edges_per_user,
            sampling_steps,
            sampling_noise,
            candidates,
        )

    @torch.no_grad()
    def sample_edges_of(
        self,
        modality: str,
        interactions: ItemLists,
        num_edges_per_user: int = 1,
        sampling_steps: int = 0,
        sampling_noise: bool = False,
        candidates: Tensor | None = None,
    ) -> Tensor:
        r"""The same as :meth:`sample_edges` from lists of interactions, which
        then are sorted only once, and may be those of some users.

        Args:
            modality (str): The modality.
            interactions (ItemLists): The items of each user, none twice.
            num_edges_per_user (int, optional): As in :meth:`sample_edges`.
                (default: :obj:`1`)
            sampling_steps (int, optional): As in :meth:`sample`.
                (default: :obj:`0`)
            sampling_noise (bool, optional): As in :meth:`sample`.
                (default: :obj:`False`)
            candidates (torch.Tensor, optional): As in :meth:`sample_edges`.
                (default: :obj:`None`)

        Shapes:
            - **candidates:** :math:`(C)`
            - **output:** :math:`(2, |\mathcal{U}| \cdot k)`, sorted by user,
              then by descending score
        """
        denoiser, num_users = self._denoiser(modality), interactions.num_rows
        num_candidates = self.num_items
        device = denoiser.item_weight.device
        if candidates is not None:
            candidates = check_index(
                'candidates', candidates, self.num_items, device
            )
            num_candidates = candidates.numel()
        k = check_k(num_edges_per_user, num_candidates, 'num_edges_per_user')
        self._check_steps(sampling_steps)
        check_bool('sampling_noise', sampling_noise)

        dense = sampling_steps > 0 or sampling_noise or denoiser.normalize
        width = self.num_items if dense else max(denoiser.hidden_channels)
        height = max(1, block_size(BLOCK_SIZE, device) // width)
        reverse = None if dense else self._reverse(denoiser)
        user_row: Tensor | None = None
        if sampling_steps == 0 and not sampling_noise:
            # Users of the same items get the same ones.
            interactions, user_row = interactions.distinct()

        lin = denoiser.lin_out
        low = compute_dtype(lin.weight)
        weight, bias = lin.weight.to(low), lin.bias.to(low)
        if candidates is not None:
            weight, bias = weight[candidates], bias[candidates]
        out = interactions.item.new_empty(interactions.num_rows, k)
        for rows, lists in interactions.blocks(height):
            if reverse is None:
                x_start = lists.dense(self.num_items, denoiser.item_weight)
                score = self.sample(
                    modality, x_start, sampling_steps, sampling_noise
                )
                if candidates is not None:
                    score = score[:, candidates]
                out[rows] = score.topk(k, dim=1).indices
            else:
                h = reverse(bag(lists, denoiser.item_weight))
                out[rows] = topk_items(h, weight, k, bias)

        if candidates is not None:
            out = candidates[out]
        users = torch.arange(num_users, device=out.device)
        out = out if user_row is None else out[user_row]
        return torch.stack([users.repeat_interleave(k), out.view(-1)])

    def _draw_steps(
        self,
        num_rows: int,
        device: torch.device,
        streams: RowStreams | None,
    ) -> Tensor:
        num_steps = self.diffusion.num_steps
        if streams is not None:
            return streams.randint(num_steps, device)
        return torch.randint(num_steps, (num_rows,), device=device)

    def _reverse(self, denoiser: Denoiser) -> HiddenReverse:
        lin, diffusion = denoiser.lin_out, self.diffusion
        steps = torch.arange(diffusion.num_steps, device=lin.weight.device)
        return HiddenReverse(
            denoiser,
            product(lin.weight.t(), denoiser.item_weight),
            lin.bias @ denoiser.item_weight,
            denoiser.time_shift(steps),
            diffusion.posterior_mean_coef1,
            diffusion.posterior_mean_coef2,
        )

    def _check_rows(self, denoiser: Denoiser, x_start: Tensor) -> None:
        check_matrix(
            'x_start',
            x_start,
            None,
            self.num_items,
            finite=False,
            dtype=denoiser.item_weight.dtype,
            device=denoiser.item_weight.device,
        )

    def _check_msi(
        self,
        denoiser: Denoiser,
        msi_weight: float,
        item_emb: Tensor,
        modality_emb: Tensor,
    ) -> None:
        if check_number('msi_weight', msi_weight, 0.0) == 0:
            return
        weight, num_channels = denoiser.item_weight, None
        for name, x in (('item_emb', item_emb), ('modality_emb', modality_emb)):
            check_matrix(
                name,
                x,
                self.num_items,
                num_channels,
                finite=False,
                dtype=weight.dtype,
                device=weight.device,
            )
            num_channels = x.size(1)

    def _check_steps(self, sampling_steps: int) -> None:
        check_int('sampling_steps', sampling_steps, 0)
        if sampling_steps > self.diffusion.num_steps:
            raise ValueError(
                f"'sampling_steps' needs to be at most the "
                f'number of steps {self.diffusion.num_steps} '
                f'(got {sampling_steps})'
            )

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({self.num_items}, {self.modalities})'
