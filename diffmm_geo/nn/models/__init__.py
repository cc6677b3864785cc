r"""Models."""

from .cold_items import rescale_cold_items
from .concat_embeddings import concat_embeddings
from .diffmm import DiffMM
from .item_graph_light_gcn import ItemGraphLightGCN
from .mf import MF
from .vbpr import VBPR

__all__ = [
    'MF',
    'VBPR',
    'DiffMM',
    'ItemGraphLightGCN',
    'concat_embeddings',
    'rescale_cold_items',
]
