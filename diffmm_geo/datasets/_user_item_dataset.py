import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import Tensor
from torch_geometric.data import HeteroData, InMemoryDataset
from torch_geometric.data.data import BaseData

from diffmm_geo.utils.atomic import atomic_path

from ._edges import to_index

DataTransform = Callable[[HeteroData], HeteroData]


class UserItemDataset(InMemoryDataset):
    r"""The base class of datasets that hold one user-item graph with features
    of the items in several modalities.

    Args:
        root (str): Root directory where the dataset should be saved.
        modalities (tuple[str, ...]): The modalities to hold.
        transform (callable, optional): As in
            :class:`~torch_geometric.data.InMemoryDataset`.
            (default: :obj:`None`)
        pre_transform (callable, optional): As in
            :class:`~torch_geometric.data.InMemoryDataset`.
            (default: :obj:`None`)
        force_reload (bool, optional): Whether to re-process the dataset.
            (default: :obj:`False`)
    """

    def __init__(
        self,
        root: str,
        modalities: tuple[str, ...],
        transform: DataTransform | None = None,
        pre_transform: DataTransform | None = None,
        force_reload: bool = False,
    ) -> None:
        self.modalities = modalities
        super().__init__(
            os.fspath(root),
            transform,
            pre_transform,
            force_reload=force_reload,
        )
        self.load(self.processed_paths[0], data_cls=HeteroData)

    @property
    def processed_file_names(self) -> str:
        # Variants share a root. No name of a modality holds a '+'.
        return '+'.join(['data', *self.modalities]) + '.pt'

    @classmethod
    def save(cls, data_list: Sequence[BaseData], path: str) -> None:
        r"""Saves a list of data objects to :obj:`path`, which never holds an
        incomplete file.

        Args:
            data_list (list[BaseData]): The data objects.
            path (str): The path.
        """
        with atomic_path(path) as temporary:
            super().save(data_list, temporary)

    def build(
        self,
        num_users: int,
        num_items: int,
        splits: Sequence[np.ndarray],
        features: Mapping[str, Tensor],
    ) -> HeteroData:
        r"""Builds the graph.

        Args:
            num_users (int): The number of users.
            num_items (int): The number of items.
            splits (list[numpy.ndarray]): The training, validation and test
                interactions, each of shape :math:`[2, |\mathcal{E}|]`.
            features (dict[str, torch.Tensor]): The features of the items for
                each modality.
        """
        train, val, test = splits
        if train.shape[1] == 0:
            raise ValueError(
                f"'{self.raw_dir}': expected at least one training "
                f'interaction, got none'
            )

        data = HeteroData()
        data['user'].num_nodes = num_users
        data['item'].num_nodes = num_items
        for modality, x in features.items():
            data['item'][f'x_{modality}'] = x
        store = data['user', 'interacts', 'item']
        store.edge_index = to_index(train)
        store.val_edge_label_index = to_index(val)
        store.test_edge_label_index = to_index(test)
        return data

    def save_processed(self, data: HeteroData) -> None:
        r"""Applies :obj:`pre_transform` and saves the graph.

        Args:
            data (HeteroData): The graph.
        """
        if self.pre_transform is not None:
            data = self.pre_transform(data)
        self.save([data], self.processed_paths[0])
