import os
import os.path as osp
import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData, InMemoryDataset
from torch_geometric.data.data import BaseData

from diffmm_geo.utils.atomic import atomic_path
from diffmm_geo.utils.checks import check_edge_index, check_matrix
from diffmm_geo.utils.paths import check_path
from diffmm_geo.utils.torch_file import load_torch_file

from ._modalities import find_modalities, select_modalities
from ._raw_stamp import changed_files, write_stamp
from ._user_item_data import SPLITS, user_item_data

DataTransform = Callable[[HeteroData], HeteroData]


class UserItemDataset(InMemoryDataset):
    r"""Base class of datasets of one user-item graph with item features."""

    known_modalities: Sequence[str] = ()
    _where = ''  # The place of the known modalities, for errors.

    def __init__(
        self,
        root: str,
        modalities: Sequence[str] | None = None,
        transform: DataTransform | None = None,
        pre_transform: DataTransform | None = None,
        force_reload: bool = False,
    ) -> None:
        self.modalities = select_modalities(
            modalities, self.known_modalities, self._where
        )
        root = str(check_path('root', root))
        super().__init__(
            root,
            transform,
            pre_transform,
            force_reload=force_reload or self._is_stale(root),
        )
        self.load(self.processed_paths[0], data_cls=HeteroData)

    def _is_stale(self, root: str) -> bool:
        # PyG keeps what is processed, whatever becomes of the raw files.
        processed = osp.join(root, 'processed', self.processed_file_names)
        if not osp.exists(processed):
            return False
        paths = [osp.join(root, 'raw', name) for name in self.raw_file_names]
        changed = changed_files(processed, paths)
        if changed:
            warnings.warn(
                f"{changed} in '{osp.join(root, 'raw')}' differ from the files "
                f"that '{processed}' was made from: they are processed again",
                stacklevel=4,
            )
        return bool(changed)

    def _process(self) -> None:
        # PyG writes these after the data, so that a full disk or an interrupt
        # may leave a part of one, and then cannot read it.
        for name in ('pre_transform.pt', 'pre_filter.pt'):
            path = osp.join(self.processed_dir, name)
            try:
                load_torch_file(path)
            except FileNotFoundError:
                continue
            except ValueError:
                os.remove(path)
                self.force_reload = True
        try:
            super()._process()
        except OSError as error:
            if error.errno is None or error.filename is not None:
                raise
            args = error.errno, error.strerror, self.processed_dir
            raise OSError(*args) from None

    def find_raw_files(self, root: str, names: Sequence[str], tag: str) -> None:
        r"""Finds the modalities in :obj:`root/raw`, which needs to have the
        named files.
        """
        raw_dir = str(check_path('root', root) / 'raw')
        missing = [
            name for name in names if not osp.isfile(osp.join(raw_dir, name))
        ]
        if missing:
            raise FileNotFoundError(
                f"Expected the interactions {missing} in '{raw_dir}', got no "
                f'such files. Put a dataset in the format of {tag} there.'
            )
        self.known_modalities = find_modalities(raw_dir)
        self._where = f" (for the '*_feat.npy' in '{raw_dir}')"

    @property
    def processed_file_names(self) -> str:
        # Variants share a root.
        names = [
            name.replace('%', '%25').replace('+', '%2B')
            for name in self.modalities
        ]
        return '+'.join(['data', *names]) + '.pt'

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
        for key in SPLITS:
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
            for key, split in zip(SPLITS, splits)
        }
        return user_item_data(num_users, num_items, features, edges)

    def save_processed(self, data: HeteroData) -> None:
        if self.pre_transform is not None:
            data = self.pre_transform(data)
        self.save([data], self.processed_paths[0])
        write_stamp(self.processed_paths[0], self.raw_paths)
