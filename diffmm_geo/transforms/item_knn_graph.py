from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from diffmm_geo.ops import topk_items
from diffmm_geo.ops.dense import unit_rows
from diffmm_geo.sparse import CSR
from diffmm_geo.utils.checks import check_int, check_modalities, check_type
from diffmm_geo.utils.features import modality_features, standardize

# Edges per block of cosines.
BLOCK_EDGES = 2**16


@functional_transform('item_knn_graph')
class ItemKNNGraph(BaseTransform):
    r"""Connects each item to its :math:`k` nearest other items in each modality
    :obj:`m`, by edges of type :obj:`(item, f'similar_{m}', item)`
    (functional name: :obj:`item_knn_graph`)

    .. math::
        \mathcal{N}_m(i) = \underset{j \neq i}{\mathrm{top}_k} \,
        \cos(\mathbf{x}^{\prime}_{m,i}, \mathbf{x}^{\prime}_{m,j}).

    Each channel of the standardized features :math:`\mathbf{x}^{\prime}_m` has
    zero mean and unit variance. Row 0 of :obj:`edge_index` holds the neighbor
    :math:`j` (source) and row 1 the item :math:`i` (target), so that items
    receive messages from their neighbors. :obj:`edge_weight` holds the cosines.

    The search is exact and computes cosines in blocks, without a matrix of all
    pairs. Items without features (rows of zeros) neither have neighbors nor are
    neighbors.

    Args:
        k (int, optional): The number of neighbors of each item.
            (default: :obj:`10`)
        modalities (list[str], optional): The modalities. If not given, uses
            all features :obj:`x_{m}` of the items. (default: :obj:`None`)
        item_type (str, optional): The node type of items.
            (default: :obj:`'item'`)

    Raises:
        ValueError: If an argument is out of range, or features are missing or
            not finite.

    Example:
        >>> import torch
        >>> from torch_geometric.data import HeteroData
        >>> from diffmm_geo.transforms import ItemKNNGraph
        >>> data = HeteroData()
        >>> data['item'].num_nodes = 4
        >>> data['item'].x_image = torch.tensor([[1.0], [2.0], [8.0], [9.0]])
        >>> data = ItemKNNGraph(k=1)(data)
        >>> data['item', 'similar_image', 'item'].edge_index
        tensor([[1, 0, 3, 2],
                [0, 1, 2, 3]])
    """

    def __init__(
        self,
        k: int = 10,
        modalities: Sequence[str] | None = None,
        item_type: str = 'item',
    ) -> None:
        if modalities is not None:
            modalities = check_modalities(modalities)
        check_type('item_type', item_type, str)
        self.modalities = modalities
        self.k = check_int('k', k)
        self.item_type = item_type

    def forward(self, data: HeteroData) -> HeteroData:
        check_type('data', data, HeteroData)
        if self.item_type not in data.node_types:
            raise ValueError(
                f"'data' needs nodes of type '{self.item_type}' "
                f'(got {data.node_types})'
            )
        store = data[self.item_type]
        features = modality_features(store, store.num_nodes, self.modalities)
        for m, x in features.items():
            edge_type = (self.item_type, f'similar_{m}', self.item_type)
            edge_index, cosine = self._nearest(x)
            data[edge_type].edge_index = edge_index
            data[edge_type].edge_weight = cosine
        return data

    @torch.no_grad()
    def _nearest(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = unit_rows(standardize(x))
        node = x.any(dim=1).nonzero().view(-1)
        num_nodes = node.numel()
        k = min(self.k, num_nodes - 1)
        if k < 1:
            return node.new_empty(2, 0), x.new_empty(0)
        x = x[node]
        place = torch.arange(num_nodes, device=x.device)
        rowptr = torch.arange(num_nodes + 1, device=x.device)
        itself = CSR(rowptr, place, (num_nodes, num_nodes))
        neighbor = topk_items(x, x, k, exclude=itself).flatten()
        edge_index = torch.stack([neighbor, place.repeat_interleave(k)])
        # In blocks, as features may be wide.
        cosine = [
            (x[row] * x[col]).sum(dim=1)
            for row, col in edge_index.split(BLOCK_EDGES, dim=1)
        ]
        return node[edge_index], torch.cat(cosine)

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}(k={self.k}, '
            f'modalities={self.modalities}, item_type={self.item_type!r})'
        )
