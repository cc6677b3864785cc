from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from diffmm_geo.nn import GaussianDiffusion, MaskedDiffusion, ModalityDiffusion
from diffmm_geo.nn.diffusion.list_loss import FORMS
from diffmm_geo.nn.diffusion.modality_diffusion import PARTS
from diffmm_geo.tasks.config import TrainingConfig
from diffmm_geo.utils.checks import (
    check_bool,
    check_choice,
    check_int,
    check_number,
)


@dataclass(frozen=True, kw_only=True)
class DiffMMConfig(TrainingConfig):
    r"""The settings of :class:`~diffmm_geo.training.DiffMMTrainer`. Some are
    passed on to :class:`~diffmm_geo.nn.DiffMM`,
    :class:`~diffmm_geo.nn.GaussianDiffusion`, :class:`~diffmm_geo.nn.Denoiser`
    and :class:`~diffmm_geo.nn.CrossModalContrastiveLoss`, which describe them.
    The defaults are meant for data that nobody tuned them for; :meth:`paper`
    has those of the paper's authors.

    Args:
        diffusion_lr (float, optional): The learning rate of the denoisers.
            (default: :obj:`3e-3`)
        ssl_weight (float, optional): The weight of the contrastive loss.
            (default: :obj:`1e-2`)
        temperature (float, optional): The temperature of the contrastive loss.
            (default: :obj:`0.5`)
        anchor (str, optional): The anchor of the contrastive loss.
            (default: :obj:`"main"`)
        keep_rate (float, optional): The probability of keeping an entry of a
            generated graph in training. (default: :obj:`0.5`)
        likelihood (str, optional): The likelihood of the diffusion:
            :obj:`"gaussian"`, as in the paper, or :obj:`"multinomial"`, with a
            :class:`~diffmm_geo.nn.MaskedDiffusion` of :obj:`num_steps` steps,
            which masks interactions in place of noise and :obj:`dropout`.
            (default: :obj:`"multinomial"`)
        denoiser_features (bool, optional): Whether denoisers see the features
            of items; see :class:`~diffmm_geo.nn.Denoiser`.
            (default: :obj:`True`)
        standardize (bool, optional): Whether the model standardizes the
            features; see :class:`~diffmm_geo.nn.DiffMM`.
            (default: :obj:`True`)
        msi_weight (float, optional): The weight of the MSI term.
            (default: :obj:`0.0`)
        num_edges_per_user (int, optional): The number of interactions to
            generate for each user and modality. If not given, generates five,
            or as many as there are items. (default: :obj:`None`)
        exclude_observed (bool, optional): Whether to generate only interactions
            that are not observed. (default: :obj:`True`)
        diffusion_form (str, optional): How to compute the denoisers' products
            with all items in training; see
            :meth:`~diffmm_geo.nn.ModalityDiffusion.batch_loss`.
            (default: :obj:`"auto"`)
        diffusion_batch_size (int, optional): The number of users per step of
            the diffusion phase. If :obj:`None`, uses :obj:`batch_size`. Each
            step updates all rows of the denoisers, so larger batches are faster
            if there are many items. (default: :obj:`256`)
        num_candidates (int, optional): The number of candidates to draw for the
            contrastive loss in each step. If not given, uses all nodes.
            (default: :obj:`None`)
        num_generated_from (int, optional): The number of items to draw in each
            epoch. The diffusion generates interactions only with these items.
            If not given, uses all items. (default: :obj:`None`)
    """

    diffusion_lr: float = 3e-3
    ssl_weight: float = 1e-2
    temperature: float = 0.5
    anchor: str = 'main'
    keep_rate: float = 0.5
    likelihood: str = 'multinomial'
    denoiser_features: bool = True
    standardize: bool = True
    msi_weight: float = 0.0
    num_edges_per_user: int | None = None
    exclude_observed: bool = True
    diffusion_form: str = 'auto'
    diffusion_batch_size: int | None = 256
    num_candidates: int | None = None
    num_generated_from: int | None = None
    embedding_dim: int = 64
    num_layers: int = 1
    generated_weight: float = 0.2
    residual_weight: float = 0.5
    projection: str = 'linear'
    num_steps: int = 5
    noise_scale: float = 0.1
    noise_min: float = 1e-4
    noise_max: float = 0.02
    hidden_channels: int | Sequence[int] = 200
    time_channels: int = 10
    dropout: float = 0.5

    @classmethod
    def paper(cls, **kwargs: Any) -> DiffMMConfig:
        r"""The settings of the paper where they differ from the defaults: a
        Gaussian diffusion with the MSI term, raw features, and one generated
        interaction for each user.

        Args:
            **kwargs (optional): Other settings, which take precedence.

        Example:
            >>> from diffmm_geo.training import DiffMMConfig
            >>> DiffMMConfig.paper(seed=1).likelihood
            'gaussian'
        """
        settings: dict[str, Any] = {
            'likelihood': 'gaussian',
            'denoiser_features': False,
            'standardize': False,
            'msi_weight': 0.1,
            'diffusion_lr': 1e-3,
            'diffusion_batch_size': None,
            'hidden_channels': 1000,
            'num_edges_per_user': 1,
            'exclude_observed': False,
        }
        return cls(**{**settings, **kwargs})

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number('diffusion_lr', self.diffusion_lr, 0.0, low_open=True)
        check_number('ssl_weight', self.ssl_weight, 0.0)
        check_number('keep_rate', self.keep_rate, 0.0, 1.0, low_open=True)
        check_choice('likelihood', self.likelihood, PARTS)
        check_bool('denoiser_features', self.denoiser_features)
        check_bool('standardize', self.standardize)
        check_number('msi_weight', self.msi_weight, 0.0)
        check_bool('exclude_observed', self.exclude_observed)
        check_choice('diffusion_form', self.diffusion_form, FORMS)
        for name in (
            'num_edges_per_user',
            'diffusion_batch_size',
            'num_candidates',
            'num_generated_from',
        ):
            if getattr(self, name) is not None:
                check_int(name, getattr(self, name))
        if self.likelihood == 'multinomial':
            self._check_masked()

    def _check_masked(self) -> None:
        defaults = {field.name: field.default for field in fields(self)}
        for name in ('noise_scale', 'noise_min', 'noise_max', 'dropout'):
            if getattr(self, name) != defaults[name]:
                raise ValueError(
                    f"'{name}' needs 'likelihood' to be 'gaussian' to have an "
                    f"effect (got likelihood='multinomial', "
                    f'{name}={getattr(self, name)})'
                )
        if self.diffusion_form == 'gram':
            raise ValueError(
                "'diffusion_form' needs to be 'auto', 'dense' or 'sampled' if "
                "'likelihood' is 'multinomial' (got 'gram')"
            )


def make_diffusion(
    config: DiffMMConfig, num_items: int, modalities: Sequence[str]
) -> ModalityDiffusion:
    r"""The denoisers that the settings describe."""
    c = config
    process: GaussianDiffusion | MaskedDiffusion
    kwargs: dict[str, Any] = {
        'hidden_channels': c.hidden_channels,
        'time_channels': c.time_channels,
        'feature_channels': -1 if c.denoiser_features else None,
    }
    if c.likelihood == 'multinomial':
        process = MaskedDiffusion(c.num_steps)
    else:
        noise = c.noise_scale, c.noise_min, c.noise_max
        process = GaussianDiffusion(c.num_steps, *noise)
        kwargs['dropout'] = c.dropout
    return ModalityDiffusion(num_items, modalities, process, **kwargs)
