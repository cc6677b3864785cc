from pathlib import Path

import numpy as np
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from ._user_item_graph import UserItemGraph
from ._write import write_folder
from .mmrec import check_name


def write_mmrec(
    data: HeteroData,
    folder: str | Path,
    name: str,
    edge_type: EdgeType = ('user', 'interacts', 'item'),
) -> None:
    r"""Writes a user-item graph in the format of the `MMRec toolbox
    <https://github.com/enoche/MMRec>`_. The file :obj:`{name}.inter` holds the
    interactions, with ratings :obj:`1.0` and timestamps :obj:`0`. The files
    :obj:`{modality}_feat.npy` hold the item features :obj:`x_{modality}`, in
    their data type. The format holds nothing else.
    :class:`~diffmm_geo.datasets.MMRecDataset` reads the files from
    :obj:`folder = root/raw`, and the toolbox reads them from
    :obj:`data/{name}`.

    Existing files are replaced once all new files are complete.

    Args:
        data (HeteroData): The graph; see
            :class:`~diffmm_geo.training.Trainer`. Held-out interactions are
            optional.
        folder (str or Path): The folder, created if missing.
        name (str): The name of the dataset, *e.g.*, :obj:`"baby"`.
        edge_type (tuple[str, str, str], optional): The edge type of observed
            interactions. (default: :obj:`('user', 'interacts', 'item')`)

    Raises:
        ValueError: If the format cannot hold the graph, such as edge weights.
            The last user needs an interaction. Without features, the last item
            also needs one.
        FileExistsError: If the folder holds features of another modality.
    """
    check_name(name)
    graph = UserItemGraph.from_data(data, edge_type)
    sides = [('user', graph.num_users), ('item', graph.num_items)]
    for row, (side, size) in enumerate(sides[: 1 if graph.features else 2]):
        largest = max(int(e[row].max(initial=-1)) for e in graph.splits)
        if largest + 1 < size:
            raise ValueError(
                f"'data' needs an interaction of its last {side} {size - 1}: "
                f'the largest {side} in the file gives the number of {side}s '
                f'(got {largest})'
            )

    table = 'userID\titemID\trating\ttimestamp\tx_label\n' + ''.join(
        _rows(edges, label) for label, edges in enumerate(graph.splits)
    )
    write_folder(folder, {f'{name}.inter': table.encode()}, graph.features)


def _rows(edges: np.ndarray, label: int) -> str:
    return ''.join(
        f'{user}\t{item}\t1.0\t0\t{label}\n'
        for user, item in zip(*edges.tolist())
    )
