import json
import os
import os.path as osp
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from torch_geometric.data import HeteroData, InMemoryDataset
from torch_geometric.data.data import BaseData

from diffmm_geo.utils.atomic import atomic_path
from diffmm_geo.utils.checks import check_bool
from diffmm_geo.utils.paths import check_path
from diffmm_geo.utils.torch_file import load_torch_file

from ._modality_files import feature_file, find_modalities, select_modalities

DataTransform = Callable[[HeteroData], HeteroData]


class UserItemDataset(InMemoryDataset):
    r"""Base class of datasets of one user-item graph with item features. A
    dataset has :obj:`interaction_files` and :meth:`read_raw`, and
    :meth:`download` if files can be downloaded.
    """

    interaction_files: Sequence[str]
    # None: all with a file of features in the folder of raw files.
    known_modalities: Sequence[str] | None = None
    by_hand = ''  # Where files come from that are not downloaded.

    def __init__(
        self,
        root: str,
        modalities: Sequence[str] | None = None,
        transform: DataTransform | None = None,
        pre_transform: DataTransform | None = None,
        force_reload: bool = False,
    ) -> None:
        self.root = str(check_path('root', root))
        known = self.known_modalities
        if known is None:
            self.check_files(self.interaction_files)
            known = find_modalities(self.raw_dir)
        self.modalities = select_modalities(modalities, known)
        # Without a `process`, PyG only downloads: it would keep what is
        # processed, whatever becomes of the raw files.
        super().__init__(self.root, transform, pre_transform)
        if check_bool('force_reload', force_reload) or self._is_stale():
            self._write()
        self.load(self.processed_paths[0])

    def read_raw(self) -> HeteroData:
        r"""Reads the graph from the raw files."""
        raise NotImplementedError

    def check_files(self, names: Sequence[str]) -> None:
        r"""Raises an error if raw files are missing."""
        raw = Path(self.raw_dir)
        missing = [name for name in names if not (raw / name).is_file()]
        if missing:
            raise FileNotFoundError(
                f"Expected {missing} in '{raw}', got no such files. "
                f'{self.by_hand}'
            )

    @property
    def raw_file_names(self) -> list[str]:
        return [*self.interaction_files, *map(feature_file, self.modalities)]

    @property
    def processed_file_names(self) -> str:
        # Variants share a root.
        return '+'.join(['data', *map(quote, self.modalities)]) + '.pt'

    def load(self, path: str, data_cls: type[BaseData] = HeteroData) -> None:
        r"""Loads the graph. Unlike PyG, never executes code in the file."""
        try:
            mapping, self.slices, cls = load_torch_file(path)
            if not issubclass(cls, data_cls):
                raise ValueError(f'expected a {data_cls.__name__}, got {cls}')
            self.data = cls.from_dict(mapping)
        except Exception as error:  # Damaged files raise anything.
            raise ValueError(
                f"'{path}' is damaged or from another version: pass "
                f"'force_reload=True' to process the raw files again "
                f'({type(error).__name__}: {error})'
            ) from error

    def _write(self) -> None:
        path, made_from = self.processed_paths[0], self._made_from()
        data = self.read_raw()
        if self.pre_transform is not None:
            data = self.pre_transform(data)
        os.makedirs(self.processed_dir, exist_ok=True)
        with atomic_path(path) as temporary:
            self.save([data], temporary)
        with atomic_path(f'{path}.json') as temporary:
            Path(temporary).write_text(json.dumps(made_from, indent=1) + '\n')

    def _is_stale(self) -> bool:
        path, now = self.processed_paths[0], self._made_from()
        if not osp.exists(path):
            return True
        try:
            record = dict(json.loads(Path(f'{path}.json').read_text()))
        except (OSError, ValueError, TypeError, RecursionError):
            record = {}
        changed = [name for name in now if record.get(name) != now[name]]
        if changed:
            warnings.warn(
                f"{changed} in '{self.raw_dir}' differ from what '{path}' was "
                f'made from: it is processed again',
                stacklevel=4,
            )
        return bool(changed)

    def _made_from(self) -> dict[str, Any]:
        r"""The size and the time of each raw file, and the transform."""
        # A function's address differs between processes.
        transform = str(self.pre_transform).partition(' at 0x')[0]
        stats = {osp.basename(p): os.stat(p) for p in self.raw_paths}
        return {
            **{name: [s.st_size, s.st_mtime_ns] for name, s in stats.items()},
            'pre_transform': transform,
        }
