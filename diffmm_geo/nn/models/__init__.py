r"""Models."""

from .concat_embeddings import concat_embeddings
from .diffmm import DiffMM
from .item_graph_light_gcn import ItemGraphLightGCN

__all__ = [
    'DiffMM',
    'ItemGraphLightGCN',
    'concat_embeddings',
]
