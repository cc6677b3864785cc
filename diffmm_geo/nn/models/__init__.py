r"""Models."""

from .diffmm import DiffMM
from .item_graph_light_gcn import ItemGraphLightGCN

__all__ = [
    'DiffMM',
    'ItemGraphLightGCN',
]
