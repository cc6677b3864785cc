from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch_geometric.typing import Adj, EdgeType

from diffmm_geo.nn.pretrained import (
    WEIGHTS,
    Pretrained,
    read_file,
    write_folder,
)
from diffmm_geo.sparse.bipartite_adj import BipartiteAdj, to_coo
from diffmm_geo.utils.checks import check_edge_index, check_keys, describe
from diffmm_geo.utils.paths import check_path
from diffmm_geo.utils.raw_ids import check_raw_ids, decode_ids, encode_ids

GRAPHS = 'graphs.safetensors'
RAW_IDS = 'raw_ids.safetensors'


class PretrainedWithGraphs(Pretrained):
    r"""A module that also saves its graphs, to :obj:`graphs.safetensors`."""

    num_users: int
    num_items: int

    @property
    def size(self) -> tuple[int, int]:
        r"""The number of users and the number of items."""
        return self.num_users, self.num_items

    @property
    def edge_types(self) -> list[EdgeType]:
        r"""The edge types of the graphs. The first is required."""
        raise NotImplementedError

    def graph_size(self, edge_type: EdgeType) -> tuple[int, int]:
        r"""The number of sources and of targets of an edge type, by default
        of users and of items.
        """
        return self.size

    def save_pretrained(
        self,
        folder: str | Path,
        edge_index_dict: Mapping[EdgeType, Adj | BipartiteAdj] | None = None,
        raw_id_dict: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        r"""Saves the module and optionally its graphs and the IDs of users and
        items as they came in. A failure leaves an earlier save unchanged.

        Args:
            folder (str or Path): The folder, created if missing.
            edge_index_dict (dict, optional): The observed and generated
                graphs. (default: :obj:`None`)
            raw_id_dict (dict[str, list[str]], optional): The IDs by node type,
                such as :obj:`data.collect('raw_id')`. (default: :obj:`None`)

        Raises:
            ImportError: If safetensors is not installed.
            ValueError: If the observed graph is missing, a graph has edge
                weights or a size other than that of the module, or a node type
                has no ID for each node.
        """
        folder = check_path('folder', folder)
        files: dict[str, dict[str, Tensor]] = {WEIGHTS: self.state_dict()}
        if edge_index_dict is not None:
            check_keys('edge_index_dict', edge_index_dict, self.edge_types[:1])
            files[GRAPHS] = {
                json.dumps(t): _edge_index(
                    t, edge_index_dict[t], self.graph_size(t)
                )
                for t in self.edge_types
                if t in edge_index_dict
            }
        if raw_id_dict is not None:
            sizes = self._sizes_by_node_type
            check_keys('raw_id_dict', raw_id_dict, sizes)
            files[RAW_IDS] = {
                t: encode_ids(
                    check_raw_ids(f"raw_id_dict['{t}']", raw_id_dict[t], size)
                )
                for t, size in sizes.items()
            }
        write_folder(folder, self, files)
        for name in (GRAPHS, RAW_IDS):
            if name not in files:
                Path(folder, name).unlink(missing_ok=True)

    @property
    def _sizes_by_node_type(self) -> dict[str, int]:
        user, _, item = self.edge_types[0]
        return {user: self.num_users, item: self.num_items}

    def load_raw_ids(self, folder: str | Path) -> dict[str, list[str]]:
        r"""Loads the saved IDs of users and items, by node type.

        Args:
            folder (str or Path): The folder.

        Raises:
            FileNotFoundError: If no IDs were saved.
            ImportError: If safetensors is not installed.
            ValueError: If the file is damaged or comes from another save.
        """
        folder = check_path('folder', folder)
        content = read_file(folder, RAW_IDS, type(self))
        check_keys(str(folder / RAW_IDS), content, self._sizes_by_node_type)
        return {
            t: check_raw_ids(
                f'{folder / RAW_IDS}, {t}', decode_ids(t, content[t]), size
            )
            for t, size in self._sizes_by_node_type.items()
        }

    def load_graphs(self, folder: str | Path) -> dict[EdgeType, Tensor]:
        r"""Loads the saved graphs to the module's device.

        Args:
            folder (str or Path): The folder.

        Shapes:
            - **output:** :math:`(2, |\mathcal{E}|)` for every edge type

        Raises:
            FileNotFoundError: If no graphs were saved.
            ImportError: If safetensors is not installed.
            ValueError: If the file is damaged or comes from another save, or
                its graphs do not fit the module.
        """
        folder = check_path('folder', folder)
        path = folder / GRAPHS
        graphs = read_file(folder, GRAPHS, type(self))
        by_key = {json.dumps(t): t for t in self.edge_types}
        required = json.dumps(self.edge_types[0])
        if required not in graphs or not graphs.keys() <= by_key.keys():
            raise ValueError(
                f"'{path}' needs the graph {required} and optionally others "
                f'of {list(by_key)} (got {list(graphs)})'
            )
        device = next(self.parameters()).device
        return {
            t: check_edge_index(
                f'{path}, {t}', graphs[key], *self.graph_size(t)
            ).to(device)
            for key, t in by_key.items()
            if key in graphs
        }


def _edge_index(
    edge_type: EdgeType, adj: Adj | BipartiteAdj, size: tuple[int, int]
) -> Tensor:
    if isinstance(adj, BipartiteAdj):
        raise ValueError(
            f"'edge_index_dict' needs the graph of {edge_type} before "
            f"'adjacency_dict' (got a BipartiteAdj)"
        )
    user, item, weight = to_coo(adj, size)
    if weight is not None and bool((weight != 1).any()):
        raise ValueError(
            f"'edge_index_dict' needs {edge_type} without edge weights to be "
            f'saved (got {describe(weight)})'
        )
    return torch.stack([user, item])
