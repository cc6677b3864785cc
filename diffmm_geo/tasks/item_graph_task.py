from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from diffmm_geo.nn import ItemGraphLightGCN
from diffmm_geo.tasks.config import ItemGraphConfig
from diffmm_geo.tasks.task import Task
from diffmm_geo.transforms import ItemKNNGraph
from diffmm_geo.utils.features import modality_features


class ItemGraphTask(Task):
    r"""Trains an :class:`~diffmm_geo.nn.ItemGraphLightGCN` on batches of
    interactions. With :obj:`objective="bpr"`, each interaction has its own
    negative item. With :obj:`"softmax"`, the interactions of a batch share
    random negative items. :class:`~diffmm_geo.transforms.ItemKNNGraph` makes
    the graphs of similar items that the data lack.

    Args:
        data (HeteroData): The user-item graph with item features :obj:`x_{m}`
            and, optionally, edges of type
            :obj:`(item, f'similar_{m}', item)`. Their weights are not used.
        config (ItemGraphConfig, optional): The settings. (default: :obj:`None`,
            :class:`~diffmm_geo.training.ItemGraphConfig` with its defaults)
        modalities (list[str], optional): The modalities to use. If not given,
            uses all modalities of the items. (default: :obj:`None`)
        edge_type, device: As in :class:`~diffmm_geo.tasks.Task`.

    Attributes:
        feature_dict (dict[str, torch.Tensor]): The raw features.
        edge_index_dict (dict): The observed graph and the graphs of similar
            items.
        adj_dict (dict): The same graphs, normalized and sorted.
    """

    config: ItemGraphConfig
    model: ItemGraphLightGCN

    def __init__(
        self,
        data: HeteroData,
        config: ItemGraphConfig | None = None,
        modalities: Sequence[str] | None = None,
        edge_type: EdgeType = ('user', 'interacts', 'item'),
        device: torch.device | str = 'cpu',
    ) -> None:
        c = ItemGraphConfig.of(config)
        super().__init__(data, c, edge_type, device)
        self.loss_names = (c.objective, 'reg', 'contrastive')
        item = self.edge_type[2]
        features = modality_features(data[item], self.num_items, modalities)
        with self.random_state.entered():
            self.model = ItemGraphLightGCN(
                self.num_users,
                self.num_items,
                {m: x.size(1) for m, x in features.items()},
                c.embedding_dim,
                c.num_layers,
                self.edge_type,
            ).to(self.device)
        weight = self.model.item_emb.weight
        self.feature_dict = {m: x.to(weight) for m, x in features.items()}
        self.model.fit_features(self.feature_dict)
        missing = [
            m
            for m in features
            if self.model.similar_edge_type(m) not in data.edge_types
        ]
        if missing:
            data = ItemKNNGraph(c.num_neighbors, missing, item)(data)
        self.edge_index_dict = {
            self.edge_type: self.edge_index,
            **{
                t: data[t].edge_index.to(self.device)
                for t in self.model.edge_types[1:]
            },
        }
        self.adj_dict = self.model.adjacency_dict(self.edge_index_dict)
        self.reset_optimizers()

    def move_data(self, device: torch.device) -> None:
        super().move_data(device)
        self.feature_dict = {
            m: x.to(device) for m, x in self.feature_dict.items()
        }
        self.edge_index_dict = {
            t: x.to(device) for t, x in self.edge_index_dict.items()
        }
        self.adj_dict = self.model.adjacency_dict(self.edge_index_dict)

    @property
    def data_dict(self) -> dict[str, Tensor]:
        features = {f'x_{m}': x for m, x in self.feature_dict.items()}
        similar = {t[1]: self.edge_index_dict[t] for t in self.model.edge_types}
        return {**super().data_dict, **features, **similar}

    def loss(self, batch: Tensor) -> dict[str, Tensor]:
        c, negative = self.config, batch[2]
        if c.objective == 'softmax':
            negative = torch.randint(
                self.num_items, (c.num_negatives,), device=self.device
            )
        return self.model.loss(
            self.feature_dict,
            self.adj_dict,
            batch[:2],
            negative,
            objective=c.objective,
            reg_weight=c.reg_weight,
            ssl_weight=c.ssl_weight,
            temperature=c.temperature,
            num_candidates=c.num_candidates,
        )

    @torch.no_grad()
    def embeddings(self) -> tuple[Tensor, Tensor]:
        self.model.eval()
        out = self.model(self.feature_dict, self.adj_dict)
        return out[self.edge_type[0]], out[self.edge_type[2]]
