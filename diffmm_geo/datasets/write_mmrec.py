import re
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from diffmm_geo.utils.atomic import atomic_path
from diffmm_geo.utils.checks import (
    check_edge_index,
    check_edge_type,
    check_matrix,
    check_unweighted,
)
from diffmm_geo.utils.interactions import count_nodes, observed_edges
from diffmm_geo.utils.paths import check_path

from ._modality_files import feature_file, find_modalities
from ._user_item_data import SPLITS
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
    path = check_path('folder', folder)
    edge_type = check_edge_type(edge_type)
    sizes = count_nodes(data, edge_type)
    store = data[edge_type]
    check_unweighted(edge_type, store)
    splits = {SPLITS[0]: observed_edges(store, sizes)}
    for key in SPLITS[1:]:
        if key in store:
            splits[key] = check_edge_index(key, store[key], *sizes)
    if splits[SPLITS[0]].size(1) == 0:
        raise ValueError(
            "'edge_index' needs at least one interaction (got none)"
        )
    features = {
        key[2:]: _array(key, x, sizes[1])
        for key, x in data[edge_type[2]].items()
        if key.startswith('x_')
    }
    _check_names(path, list(features))
    highest = torch.cat([*splits.values()], dim=1).amax(dim=1).tolist()
    for side, size, got in zip(('user', 'item'), sizes, highest):
        if got + 1 < size and (side == 'user' or not features):
            raise ValueError(
                f"'data' needs an interaction of its last {side} {size - 1}: "
                f'the largest {side} in the file gives the number of {side}s '
                f'(got {got})'
            )

    rows = [
        f'{user}\t{item}\t1.0\t0\t{SPLITS.index(key)}\n'
        for key, edges in splits.items()
        for user, item in edges.t().tolist()
    ]
    path.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        # Once all files are complete, they replace earlier ones.
        temporary = stack.enter_context(
            atomic_path(str(path / f'{name}.inter'))
        )
        with open(temporary, 'w', newline='') as f:
            f.write('userID\titemID\trating\ttimestamp\tx_label\n')
            f.writelines(rows)
        for modality, x in features.items():
            file = str(path / feature_file(modality))
            with open(stack.enter_context(atomic_path(file)), 'wb') as f:
                np.save(f, x, allow_pickle=False)


def _array(name: str, x: Tensor, num_items: int) -> np.ndarray:
    x = check_matrix(name, x, num_items, finite=False).detach().cpu()
    # Readers convert to 32 bits, where large values overflow.
    single = check_matrix(name, x.float())
    # NumPy has no bfloat16.
    return single.numpy() if x.dtype == torch.bfloat16 else x.numpy()


def _check_names(folder: Path, modalities: list[str]) -> None:
    for modality in modalities:
        # As readers find them, apart from separators and controls.
        if re.fullmatch(r'[^./\\:\0-\x1f][^/\\:\0-\x1f]*', modality) is None:
            raise ValueError(
                f"'data' needs modality names that can name files, without a "
                f'leading dot, slashes and colons (got {modality!r})'
            )
    # The folder needs to hold exactly these.
    known = find_modalities(str(folder)) if folder.is_dir() else []
    others = [feature_file(m) for m in known if m not in modalities]
    if others:
        raise FileExistsError(
            f"'{folder}' holds {others}, which would be read as features of "
            f"'data' besides {modalities}: remove them, or choose another "
            f'folder'
        )
