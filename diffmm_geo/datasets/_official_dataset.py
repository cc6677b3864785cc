import os.path as osp
import warnings
from collections.abc import Mapping

from torch_geometric.data import HeteroData

from diffmm_geo.utils.checksum import sha256sum

from ._download import download, extract_member
from ._modality_files import read_features
from ._unpickle import read_pattern
from ._user_item_data import SPLITS, user_item_data
from ._user_item_dataset import UserItemDataset


class OfficialDataset(UserItemDataset):
    r"""Base class of datasets in the format of the authors of DiffMM: three
    pickled SciPy matrices, and an array of features for each modality.
    """

    repository = (
        'https://github.com/HKUDS/DiffMM/raw/'
        'fae20e642aeeaad4284be6f7fb3432ebb551da8e/Datasets'
    )
    url: str | None = None
    interaction_files = ('trnMat.pkl', 'valMat.pkl', 'tstMat.pkl')
    # By file name: the SHA-256, if published, and the zip archive, if any.
    checksums: Mapping[str, str] = {}
    archives: Mapping[str, str] = {}

    def download(self) -> None:
        for name, path in zip(self.raw_file_names, self.raw_paths):
            if osp.exists(path):
                continue
            if name not in self.archives:
                download(f'{self.url}/{name}', path, self.checksums.get(name))
                continue
            archive = osp.join(self.raw_dir, self.archives[name])
            if not osp.exists(archive):
                download(f'{self.url}/{self.archives[name]}', archive)
            extract_member(archive, name, path)

    def read_raw(self) -> HeteroData:
        patterns = [read_pattern(path) for path in self.raw_paths[:3]]
        num_users, num_items = patterns[0].shape
        for path, pattern in zip(self.raw_paths, patterns):
            if pattern.shape != patterns[0].shape:
                raise ValueError(
                    f"'{path}': expected a matrix of shape {patterns[0].shape} "
                    f"as in '{self.raw_paths[0]}', got {pattern.shape}"
                )
        differing = [
            name
            for name, path in zip(self.raw_file_names, self.raw_paths)
            if self.checksums.get(name) not in (None, sha256sum(path))
        ]
        if differing:
            warnings.warn(
                f'{type(self).__name__} is not the published dataset: the '
                f'SHA-256 of {differing} differs',
                stacklevel=2,
            )
        features = read_features(self.raw_dir, self.modalities, num_items)
        edges = dict(zip(SPLITS, (pattern.edges for pattern in patterns)))
        return user_item_data(
            self.raw_dir, num_users, num_items, features, edges
        )
