from pathlib import Path

from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from ._edges import unique_edges
from ._official_dataset import MATRICES
from ._pickle import dump_pattern
from ._user_item_graph import UserItemGraph
from ._write import write_folder


def write_official(
    data: HeteroData,
    folder: str | Path,
    edge_type: EdgeType = ('user', 'interacts', 'item'),
) -> None:
    r"""Writes a user-item graph in the format of the `authors of DiffMM
    <https://github.com/HKUDS/DiffMM>`_. The files :obj:`trnMat.pkl`,
    :obj:`valMat.pkl` and :obj:`tstMat.pkl` hold pickled
    :obj:`scipy.sparse.coo_matrix` objects for SciPy 1.8 or newer. The files
    :obj:`{modality}_feat.npy` hold the item features :obj:`x_{modality}`, in
    their data type. Repeated interactions count once. The format holds nothing
    else. :class:`~diffmm_geo.datasets.DiffMMDataset` reads the files from
    :obj:`folder = root/raw`. The authors' code reads them from
    :obj:`Datasets/{name}` (modalities :obj:`"image"` and :obj:`"text"`, and for
    TikTok also :obj:`"audio"`).

    Existing files are replaced once all new files are complete.

    Args:
        data (HeteroData): The graph; see
            :class:`~diffmm_geo.training.Trainer`. Held-out interactions are
            optional.
        folder (str or Path): The folder, created if missing.
        edge_type (tuple[str, str, str], optional): The edge type of observed
            interactions. (default: :obj:`('user', 'interacts', 'item')`)

    Raises:
        ValueError: If the format cannot hold the graph, such as edge weights.
        FileExistsError: If the folder holds features of another modality.
    """
    graph = UserItemGraph.from_data(data, edge_type)
    shape = graph.num_users, graph.num_items
    files = {
        name: dump_pattern(unique_edges(user, item, graph.num_items), shape)
        for name, (user, item) in zip(MATRICES, graph.splits)
    }
    write_folder(folder, files, graph.features)
