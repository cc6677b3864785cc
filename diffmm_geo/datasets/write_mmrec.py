import os
import os.path as osp
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from diffmm_geo.utils.atomic import atomic_path

from ._modalities import check_feature_files, write_features
from ._user_item_graph import UserItemGraph
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

    Existing files are replaced once all new files are complete. If a
    :class:`~diffmm_geo.datasets.MMRecDataset` has already processed earlier
    files, load it with :obj:`force_reload=True`.

    Args:
        data (HeteroData): The graph; see
            :class:`~diffmm_geo.training.Trainer`. Held-out interactions are
            optional.
        folder (str or Path): The folder, created if missing.
        name (str): The name of the dataset, *e.g.*, :obj:`"baby"`.
        edge_type (tuple[str, str, str], optional): The edge type of observed
            interactions. (default: :obj:`('user', 'interacts', 'item')`)

    Raises:
        ValueError: If the format cannot hold the graph. The last user needs an
            interaction. Without features, the last item also needs one.
        FileExistsError: If the folder holds features of another modality.
    """
    check_name(name)
    folder = osp.expanduser(os.fspath(folder))
    graph = UserItemGraph.from_data(data, edge_type)
    check_feature_files(folder, graph.features)
    sides = [('user', graph.num_users), ('item', graph.num_items)]
    for row, (side, size) in enumerate(sides[: 1 if graph.features else 2]):
        largest = max(int(e[row].max(initial=-1)) for e in graph.splits)
        if largest + 1 < size:
            raise ValueError(
                f"'data' needs an interaction of its last {side} {size - 1}: "
                f'the largest {side} in the file gives the number of {side}s '
                f'(got {largest})'
            )

    os.makedirs(folder, exist_ok=True)
    with ExitStack() as stack:
        # The first path on the stack is replaced last.
        path = osp.join(folder, f'{name}.inter')
        with open(stack.enter_context(atomic_path(path)), 'wb') as f:
            f.write(b'userID\titemID\trating\ttimestamp\tx_label\n')
            for label, edges in enumerate(graph.splits):
                f.write(_rows(edges, label).encode())
        write_features(stack, folder, graph.features)


def _rows(edges: np.ndarray, label: int) -> str:
    return ''.join(
        f'{user}\t{item}\t1.0\t0\t{label}\n'
        for user, item in zip(*edges.tolist())
    )
