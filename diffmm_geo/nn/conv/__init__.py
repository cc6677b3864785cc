r"""Graph convolutions."""

from .bipartite_lg_conv import BipartiteLGConv
from .multi_modal_light_gcn_conv import MultiModalLightGCNConv

__all__ = ['BipartiteLGConv', 'MultiModalLightGCNConv']
