r"""Losses."""

from diffmm_geo.ops.info_nce import info_nce

from .cross_modal_contrastive_loss import CrossModalContrastiveLoss

__all__ = ['CrossModalContrastiveLoss', 'info_nce']
