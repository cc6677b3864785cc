import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch_geometric.typing import Adj, EdgeType

from diffmm_geo.sparse.bipartite_adj import to_coo
from diffmm_geo.utils.atomic import atomic_path
from diffmm_geo.utils.checks import (
    check_device,
    check_edge_index,
    check_keys,
    describe,
)
from diffmm_geo.utils.checksum import sha256sum
from diffmm_geo.utils.paths import check_path
from diffmm_geo.utils.raw_ids import check_raw_ids, decode_ids, encode_ids
from diffmm_geo.utils.tensor_file import read_tensors, write_tensors

CONFIG, WEIGHTS = 'config.json', 'model.safetensors'
GRAPHS, RAW_IDS = 'graphs.safetensors', 'raw_ids.safetensors'

T = TypeVar('T', bound='Pretrained')


class Pretrained(torch.nn.Module):
    r"""Base class of modules that save to a folder and load from it. The file
    :obj:`config.json` holds constructor arguments, and
    :obj:`model.safetensors` holds weights. Neither contains code.

    The mixins of :obj:`huggingface_hub` and of PyG need that package even for
    a local folder. :obj:`huggingface_hub.upload_folder` uploads what is saved
    here.
    """

    @property
    def config(self) -> dict[str, Any]:
        r"""The constructor arguments, as JSON values."""
        raise NotImplementedError

    @classmethod
    def from_config(cls: type[T], config: Mapping[str, Any]) -> T:
        r"""Constructs the module from its :obj:`config`."""
        return cls(**config)

    def save_pretrained(self, folder: str | Path) -> None:
        r"""Saves the module. A failure leaves an earlier save unchanged.

        Args:
            folder (str or Path): The folder, created if missing.

        Raises:
            ImportError: If safetensors is not installed.
        """
        write_folder(folder, self, {WEIGHTS: self.state_dict()})

    @classmethod
    def from_pretrained(
        cls: type[T], folder: str | Path, device: torch.device | str = 'cpu'
    ) -> T:
        r"""Loads a module saved by :meth:`save_pretrained`, in evaluation
        mode and in the data type of the saved weights.

        Args:
            folder (str or Path): The folder.
            device (torch.device or str, optional): The device of the module.
                (default: :obj:`'cpu'`)

        Raises:
            FileNotFoundError: If a file is missing.
            ImportError: If safetensors is not installed.
            ValueError: If a file is damaged, comes from another save, or
                belongs to another class.
        """
        device = check_device(device)
        config, state = read_folder(folder, WEIGHTS, cls)
        try:
            with torch.device('meta'):  # Draws no weights.
                module = cls.from_config(config)
            flags = _flags(module.state_dict())
            dtypes = {x.dtype for n, x in state.items() if n not in flags}
            if (
                _flags(state) != flags
                or len(dtypes) != 1
                or not next(iter(dtypes)).is_floating_point
            ):
                raise ValueError(f"not one floating point type but '{dtypes}'")
            module.load_state_dict(state, assign=True)
        except (
            *(AttributeError, KeyError, TypeError, ValueError),
            RuntimeError,  # For other weights, and if sizes overflow.
        ) as error:
            raise ValueError(
                f"'{folder}' needs the arguments and the weights of a "
                f'{cls.__name__} (got: {str(error)[:1000]})'
            ) from None
        return module.to(device).eval()


def _flags(state: Mapping[str, Tensor]) -> set[str]:
    return {name for name, x in state.items() if x.dtype == torch.bool}


class PretrainedWithGraphs(Pretrained):
    r"""A module that also saves its graphs, to :obj:`graphs.safetensors`."""

    num_users: int
    num_items: int
    #: The edge types of the graphs. The first is required.
    edge_types: list[EdgeType]

    @property
    def size(self) -> tuple[int, int]:
        r"""The number of users and the number of items."""
        return self.num_users, self.num_items

    def save_pretrained(
        self,
        folder: str | Path,
        edge_index_dict: Mapping[EdgeType, Adj] | None = None,
        raw_id_dict: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        r"""Saves the module and optionally its graphs and the IDs of users and
        items as they came in. A failure leaves an earlier save unchanged.

        Args:
            folder (str or Path): The folder, created if missing.
            edge_index_dict (dict, optional): The observed and generated
                graphs. (default: :obj:`None`)
            raw_id_dict (dict[str, list[str]], optional): The IDs by node type,
                such as :obj:`data.collect('raw_id')`. (default: :obj:`None`)

        Raises:
            ImportError: If safetensors is not installed.
            ValueError: If the observed graph is missing, a graph has edge
                weights or a size other than that of the module, or a node type
                has no ID for each node.
        """
        folder, files = check_path('folder', folder), {}
        if edge_index_dict is not None:
            check_keys('edge_index_dict', edge_index_dict, self.edge_types[:1])
            files[GRAPHS] = {
                json.dumps(t): _edge_index(t, edge_index_dict[t], self.size)
                for t in self.edge_types
                if t in edge_index_dict
            }
        if raw_id_dict is not None:
            check_keys('raw_id_dict', raw_id_dict, self.edge_types[0][::2])
            files[RAW_IDS] = {
                t: encode_ids(
                    check_raw_ids(f"raw_id_dict['{t}']", raw_id_dict[t], size)
                )
                for t, size in zip(self.edge_types[0][::2], self.size)
            }
        write_folder(folder, self, {WEIGHTS: self.state_dict(), **files})
        for name in {GRAPHS, RAW_IDS} - files.keys():
            Path(folder, name).unlink(missing_ok=True)

    def load_graphs(self, folder: str | Path) -> dict[EdgeType, Tensor]:
        r"""Loads the saved graphs to the module's device.

        Args:
            folder (str or Path): The folder.

        Shapes:
            - **output:** :math:`(2, |\mathcal{E}|)` for every edge type

        Raises:
            FileNotFoundError: If no graphs were saved.
            ValueError: If the file is damaged or comes from another save, or
                its graphs do not fit the module.
        """
        _, graphs = read_folder(folder, GRAPHS, type(self))
        by_key = {json.dumps(t): t for t in self.edge_types}
        if next(iter(by_key)) not in graphs or graphs.keys() - by_key.keys():
            raise ValueError(
                f"'{Path(folder, GRAPHS)}' needs the first and optionally "
                f'others of the graphs {list(by_key)} (got {list(graphs)})'
            )
        device = next(self.parameters()).device
        return {
            t: check_edge_index(
                f'{Path(folder, GRAPHS)}, {t}', graphs[key], *self.size
            ).to(device)
            for key, t in by_key.items()
            if key in graphs
        }

    def load_raw_ids(self, folder: str | Path) -> dict[str, list[str]]:
        r"""Loads the saved IDs of users and items, by node type.

        Args:
            folder (str or Path): The folder.

        Raises:
            FileNotFoundError: If no IDs were saved.
            ValueError: If the file is damaged or comes from another save.
        """
        _, content = read_folder(folder, RAW_IDS, type(self))
        path, types = Path(folder, RAW_IDS), self.edge_types[0][::2]
        check_keys(str(path), content, types)
        return {
            t: check_raw_ids(f'{path}, {t}', decode_ids(t, content[t]), size)
            for t, size in zip(types, self.size)
        }


def write_folder(
    folder: str | Path,
    module: Pretrained,
    files: Mapping[str, Mapping[str, Tensor]],
) -> None:
    r"""Writes all files, then replaces earlier files."""
    content: dict[str, Any] = {**_header(type(module)), 'config': module.config}
    folder = check_path('folder', folder)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        # The first path on the stack is replaced last.
        path = stack.enter_context(atomic_path(str(folder / CONFIG)))
        content['sha256'] = {}
        for name, tensors in files.items():
            temporary = stack.enter_context(atomic_path(str(folder / name)))
            write_tensors(temporary, tensors)
            content['sha256'][name] = sha256sum(temporary)
        Path(path).write_text(json.dumps(content, indent=2), encoding='utf-8')


def read_folder(
    folder: str | Path, name: str, cls: type[Pretrained]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    r"""The constructor arguments, and a file of tensors."""
    folder = check_path('folder', folder)
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(
            f"'{folder / CONFIG}' does not exist: 'folder' needs to be that of "
            f'a saved {cls.__name__}'
        )
    try:
        content = json.loads((folder / CONFIG).read_text(encoding='utf-8'))
        found = {key: content[key] for key in _header(cls)}
        if found != _header(cls):
            raise ValueError(str(found)[:200])
        config, digest = dict(content['config']), dict(content['sha256'])
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(
            f"'{folder / CONFIG}' needs to be a complete JSON file with "
            f'{_header(cls)} (got: {str(error)[:200]})'
        ) from None
    tensors = read_tensors(folder / name)
    if sha256sum(str(folder / name)) != digest.get(name):
        raise ValueError(
            f"'{folder / name}' needs to be the file saved with '{CONFIG}' "
            f'(got another or a damaged file)'
        )
    return config, tensors


def _header(cls: type[Pretrained]) -> dict[str, Any]:
    # The format increases when earlier files need another reader.
    return {'library': 'diffmm_geo', 'format': 1, 'class': cls.__name__}


def _edge_index(edge_type: EdgeType, adj: Adj, size: tuple[int, int]) -> Tensor:
    name = f'edge_index_dict[{edge_type}]'
    user, item, weight = to_coo(adj, size, name=name)
    if weight is not None and bool((weight != 1).any()):
        raise ValueError(
            f"'{name}' needs edges without weights to be saved "
            f'(got {describe(weight)})'
        )
    return torch.stack([user, item])


def module_name(modality: str) -> str:
    r"""A module name: without dots, and unlike any method's name."""
    escaped = modality.replace('%', '%25').replace('.', '%2E')
    return f'modality_{escaped}'


def load_official(
    module: torch.nn.Module, state_dict: Any, rename: Callable[[str], str]
) -> None:
    r"""Loads parameters by their names in the authors' code."""
    check_keys('state_dict', state_dict, [])
    target, found = module.state_dict(), {}
    for key, value in state_dict.items():
        try:
            found[rename(str(key))] = torch.as_tensor(value)
        except (RuntimeError, TypeError, ValueError):
            raise ValueError(
                f"'state_dict' needs tensors (got {describe(value)} for "
                f'{key!r})'
            ) from None
    sizes, expected = (
        {key: list(x.size()) for key, x in state.items()}
        for state in (found, target)
    )
    if sizes != expected:
        raise ValueError(
            f"'state_dict' needs the entries {expected} (got {sizes})"
        )
    module.load_state_dict(found)
