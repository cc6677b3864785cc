r"""Losses."""

from diffmm_geo.ops.info_nce import info_nce

from .cross_modal_contrastive_loss import CrossModalContrastiveLoss
from .sampled_softmax_loss import sampled_softmax_loss

__all__ = ['CrossModalContrastiveLoss', 'info_nce', 'sampled_softmax_loss']
