import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch_geometric.typing import Adj, EdgeType

from diffmm_geo.nn.pretrained import (
    WEIGHTS,
    Pretrained,
    read_folder,
    write_folder,
)
from diffmm_geo.sparse.bipartite_adj import to_coo
from diffmm_geo.utils.checks import check_edge_index, check_keys, describe
from diffmm_geo.utils.paths import check_path
from diffmm_geo.utils.raw_ids import check_raw_ids, decode_ids, encode_ids

GRAPHS, RAW_IDS = 'graphs.safetensors', 'raw_ids.safetensors'


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

    def save_pretrained(
        self,
        folder: str | Path,
        edge_index_dict: Mapping[EdgeType, Adj] | None = None,
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
        folder, files = check_path('folder', folder), {}
        if edge_index_dict is not None:
            check_keys('edge_index_dict', edge_index_dict, self.edge_types[:1])
            files[GRAPHS] = {
                json.dumps(t): _edge_index(t, edge_index_dict[t], self.size)
                for t in self.edge_types
                if t in edge_index_dict
            }
        if raw_id_dict is not None:
            check_keys('raw_id_dict', raw_id_dict, self.edge_types[0][::2])
            files[RAW_IDS] = {
                t: encode_ids(
                    check_raw_ids(f"raw_id_dict['{t}']", raw_id_dict[t], size)
                )
                for t, size in zip(self.edge_types[0][::2], self.size)
            }
        write_folder(folder, self, {WEIGHTS: self.state_dict(), **files})
        for name in {GRAPHS, RAW_IDS} - files.keys():
            Path(folder, name).unlink(missing_ok=True)

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
        _, graphs = read_folder(folder, GRAPHS, type(self))
        by_key = {json.dumps(t): t for t in self.edge_types}
        if next(iter(by_key)) not in graphs or graphs.keys() - by_key.keys():
            raise ValueError(
                f"'{Path(folder, GRAPHS)}' needs the first and optionally "
                f'others of the graphs {list(by_key)} (got {list(graphs)})'
            )
        device = next(self.parameters()).device
        return {
            t: check_edge_index(
                f'{Path(folder, GRAPHS)}, {t}', graphs[key], *self.size
            ).to(device)
            for key, t in by_key.items()
            if key in graphs
        }

    def load_raw_ids(self, folder: str | Path) -> dict[str, list[str]]:
        r"""Loads the saved IDs of users and items, by node type.

        Args:
            folder (str or Path): The folder.

        Raises:
            FileNotFoundError: If no IDs were saved.
            ImportError: If safetensors is not installed.
            ValueError: If the file is damaged or comes from another save.
        """
        _, content = read_folder(folder, RAW_IDS, type(self))
        path, types = Path(folder, RAW_IDS), self.edge_types[0][::2]
        check_keys(str(path), content, types)
        return {
            t: check_raw_ids(f'{path}, {t}', decode_ids(t, content[t]), size)
            for t, size in zip(types, self.size)
        }


def _edge_index(edge_type: EdgeType, adj: Adj, size: tuple[int, int]) -> Tensor:
    name = f'edge_index_dict[{edge_type}]'
    user, item, weight = to_coo(adj, size, name=name)
    if weight is not None and bool((weight != 1).any()):
        raise ValueError(
            f"'{name}' needs edges without weights to be saved "
            f'(got {describe(weight)})'
        )
    return torch.stack([user, item])
