r"""Transforms of :class:`~torch_geometric.data.HeteroData`."""

from .modality_aware_graph_diffusion import ModalityAwareGraphDiffusion

__all__ = ['ModalityAwareGraphDiffusion']
