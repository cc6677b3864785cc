import os
import os.path as osp
from contextlib import ExitStack
from pathlib import Path

from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from diffmm_geo.utils.atomic import atomic_path

from ._edges import unique_edges
from ._modalities import check_feature_files, write_features
from ._official_dataset import MATRICES
from ._pickle import dump_pattern
from ._user_item_graph import UserItemGraph


def write_official(
    data: HeteroData,
    folder: str | Path,
    edge_type: EdgeType = ('user', 'interacts', 'item'),
) -> None:
    r"""Writes a user-item graph in the format of the `authors of DiffMM
    <https://github.com/HKUDS/DiffMM>`_, which
    :class:`~diffmm_geo.datasets.DiffMMDataset` reads from
    :obj:`folder = root/raw` and their code from :obj:`Datasets/{name}`:
    :obj:`trnMat.pkl`, :obj:`valMat.pkl` and :obj:`tstMat.pkl`, each a pickled
    :obj:`scipy.sparse.coo_matrix` of users and items that any SciPy since
    1.8 loads, and :obj:`{modality}_feat.npy` for the item features
    :obj:`x_{modality}` in the type that they have. (Their code knows the
    modalities :obj:`"image"` and :obj:`"text"`, and :obj:`"audio"` on
    TikTok.)
    Repeated interactions count once.
    All else that the graph holds is not in the format.

    Files of the same names are replaced once all are written;
    :class:`~diffmm_geo.datasets.DiffMMDataset` needs :obj:`force_reload=True`
    if it has processed earlier ones.

    Args:
        data (HeteroData): The graph; see
            :class:`~diffmm_geo.training.Trainer`. Held-out interactions may
            be missing, and are read as none.
        folder (str or Path): Where to write; made if missing.
        edge_type (tuple[str, str, str], optional): The edge type of observed
            interactions. (default: :obj:`('user', 'interacts', 'item')`)

    Raises:
        ValueError: If the graph is not one that a dataset may hold.
        FileExistsError: If the folder holds features of another modality,
            which would be read as well.
    """
    folder = osp.expanduser(os.fspath(folder))
    graph = UserItemGraph.from_data(data, edge_type)
    check_feature_files(folder, graph.features)
    shape = graph.num_users, graph.num_items

    os.makedirs(folder, exist_ok=True)
    with ExitStack() as stack:
        for name, (user, item) in zip(MATRICES, graph.splits):
            edges = unique_edges(user, item, graph.num_items)
            path = osp.join(folder, name)
            with open(stack.enter_context(atomic_path(path)), 'wb') as f:
                f.write(dump_pattern(edges, shape))
        write_features(stack, folder, graph.features)
