r"""Transforms of :class:`~torch_geometric.data.HeteroData`."""

from .item_knn_graph import ItemKNNGraph
from .modality_aware_graph_diffusion import ModalityAwareGraphDiffusion

__all__ = ['ItemKNNGraph', 'ModalityAwareGraphDiffusion']
