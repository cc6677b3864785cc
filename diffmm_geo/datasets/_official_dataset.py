import os.path as osp
import warnings
from collections.abc import Mapping

from diffmm_geo.utils.checksum import sha256sum

from ._download import check_archive, download, extract_member
from ._modalities import feature_file
from ._npy import load_features
from ._unpickle import SparsePattern, read_pattern
from ._user_item_dataset import UserItemDataset

MATRICES = ('trnMat.pkl', 'valMat.pkl', 'tstMat.pkl')


class OfficialDataset(UserItemDataset):
    r"""Base class of datasets in the format of the authors of DiffMM: three
    pickled SciPy matrices, and an array of features for each modality.
    """

    repository = (
        'https://github.com/HKUDS/DiffMM/raw/'
        'fae20e642aeeaad4284be6f7fb3432ebb551da8e/Datasets'
    )
    url: str | None = None
    # By file name: the SHA-256, if published, and the zip archive, if any.
    checksums: Mapping[str, str] = {}
    archives: Mapping[str, str] = {}
    # The advice of errors about damaged files.
    remedy = 'Replace the file by the published one'

    @property
    def raw_file_names(self) -> list[str]:
        return [*MATRICES, *(feature_file(m) for m in self.modalities)]

    def download(self) -> None:
        for name, path in zip(self.raw_file_names, self.raw_paths):
            if osp.exists(path):
                continue
            check = load_features if name.endswith('.npy') else read_pattern
            if name in self.archives:
                archive = self.archives[name]
                archive_path = osp.join(self.raw_dir, archive)
                if not osp.exists(archive_path):
                    url = f'{self.url}/{archive}'
                    download(url, archive_path, check=check_archive)
                extract_member(archive_path, name, path, check)
            else:
                sha256 = self.checksums.get(name)
                download(f'{self.url}/{name}', path, sha256, check)

    def process(self) -> None:
        differing = [
            path
            for name, path in zip(self.raw_file_names, self.raw_paths)
            if name in self.checksums
            and sha256sum(path) != self.checksums[name]
        ]
        try:
            patterns = self._read_patterns()
            num_users, num_items = patterns[0].shape
            features = {
                modality: load_features(path, num_items)
                for modality, path in zip(self.modalities, self.raw_paths[3:])
            }
        except ValueError as error:
            if not self.remedy:
                raise
            source = '' if self.url is None else f" (from '{self.url}')"
            raise ValueError(f'{error}. {self.remedy}{source}') from error
        if differing:
            warnings.warn(
                f'{type(self).__name__} is not the published dataset: the '
                f'SHA-256 of {differing} differs',
                stacklevel=2,
            )
        splits = [pattern.edges for pattern in patterns]
        self.save_processed(self.build(num_users, num_items, splits, features))

    def _read_patterns(self) -> list[SparsePattern]:
        paths = self.raw_paths[:3]
        patterns = [read_pattern(path) for path in paths]
        for path, pattern in zip(paths, patterns):
            if pattern.shape != patterns[0].shape:
                raise ValueError(
                    f"'{path}': expected a matrix of shape {patterns[0].shape} "
                    f"as in '{paths[0]}', got {pattern.shape}"
                )
        return patterns
