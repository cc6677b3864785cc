import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData, InMemoryDataset
from torch_geometric.data.data import BaseData

from diffmm_geo.utils.atomic import atomic_path
from diffmm_geo.utils.checks import check_edge_index, check_matrix
from diffmm_geo.utils.torch_file import load_torch_file

from ._user_item_data import user_item_data

LABELS = ('val_edge_label_index', 'test_edge_label_index')
DataTransform = Callable[[HeteroData], HeteroData]


class UserItemDataset(InMemoryDataset):
    r"""Base class of datasets of one user-item graph with item features."""

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
        # Variants share a root. Modality names have no '+'.
        return '+'.join(['data', *self.modalities]) + '.pt'

    @classmethod
    def save(cls, data_list: Sequence[BaseData], path: str) -> None:
        r"""Saves data objects to :obj:`path`, completely or not at all."""
        with atomic_path(path) as temporary:
            super().save(data_list, temporary)

    def load(self, path: str, data_cls: type[BaseData] = HeteroData) -> None:
        r"""Loads the graph. Unlike PyG, never executes code in the file."""
        try:
            mapping, slices, cls = load_torch_file(path)
            if not issubclass(cls, data_cls):
                raise ValueError(f'expected a {data_cls.__name__}, got {cls}')
            data = cls.from_dict(mapping)
            data.validate()
            # A `pre_transform` may remove anything.
            if self.pre_transform is None:
                self._check_values(data)
        except Exception as error:  # Damaged files raise anything.
            raise ValueError(
                f"'{path}' is damaged or from another version: pass "
                f"'force_reload=True' to process the raw files again "
                f'({type(error).__name__}: {str(error)[:1000]})'
            ) from error
        self.data, self.slices = data, slices

    def _check_values(self, data: HeteroData) -> None:
        # `HeteroData.validate` checks neither edges nor features.
        num_users, num_items = data['user'].num_nodes, data['item'].num_nodes
        store = data['user', 'interacts', 'item']
        for key in ('edge_index', *LABELS):
            check_edge_index(key, store.get(key), num_users, num_items)
        for modality in self.modalities:
            key = f'x_{modality}'
            check_matrix(key, data['item'].get(key), num_items)

    def build(
        self,
        num_users: int,
        num_items: int,
        splits: Sequence[np.ndarray],
        features: Mapping[str, Tensor],
    ) -> HeteroData:
        if splits[0].shape[1] == 0:
            raise ValueError(
                f"'{self.raw_dir}': expected at least one training "
                f'interaction, got none'
            )

        edges = {
            key: torch.from_numpy(split).contiguous()
            for key, split in zip(('edge_index', *LABELS), splits)
        }
        return user_item_data(num_users, num_items, features, edges)

    def save_processed(self, data: HeteroData) -> None:
        if self.pre_transform is not None:
            data = self.pre_transform(data)
        self.save([data], self.processed_paths[0])
