"""Graphs to measure on. `python -m benchmarks.graphs ROOT NAME ...` makes
generated ones beforehand, where large ones take minutes.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from diffmm_geo.datasets.load_dataset import load_dataset
from diffmm_geo.utils.atomic import atomic_path

# What each data set is loaded with: where features cannot be had, none.
REAL = {
    'tiktok': ('image', 'audio'),
    'amazon-baby': (),
    'movielens-100k': ('text', 'genre'),
}
GENERATED = [f'power-1e{n}' for n in range(5, 9)]
# Degrees fall with rank as rank^-exponent, for items faster: on Amazon-Baby,
# the 1st, 10th and 100th item have 593, 251 and 119 edges, the users 100, 59
# and 30.
USER_EXPONENT, ITEM_EXPONENT = 0.5, 0.7
# Edges drawn at a time.
CHUNK = 2**23


@dataclass
class Graph:
    name: str
    num_users: int
    num_items: int
    edge_index: Tensor
    # The whole data set, where it is a real one.
    data: HeteroData | None = None

    @property
    def num_edges(self) -> int:
        return self.edge_index.size(1)


def parse_generated(name: str) -> tuple[int, int, int] | None:
    """Users, items and edges of `power-EDGES` (ten edges a user and two users
    an item) or `power-USERSxITEMSxEDGES`.
    """
    number = r'(\d+(?:e\d+)?)'
    if match := re.fullmatch(rf'power-{number}', name):
        edges = int(float(match[1]))
        users = max(edges // 10, 1)
        return users, max(users // 2, 1), edges
    if match := re.fullmatch(rf'power-{number}x{number}x{number}', name):
        users, items, edges = (int(float(x)) for x in match.groups())
        return users, items, edges
    return None


def check_name(name: str) -> str:
    if name in REAL or parse_generated(name) is not None:
        return name
    raise ValueError(
        f'no graph {name!r} (choose from {", ".join([*REAL, *GENERATED])}, or '
        f'power-USERSxITEMSxEDGES)'
    )


def is_available(name: str, root: Path) -> bool:
    """MovieLens-100K is downloaded; the other files are put there by hand."""
    raw = root / name / 'raw' / 'trnMat.pkl'
    return name not in REAL or name == 'movielens-100k' or raw.exists()


def load_graph(name: str, root: Path, seed: int = 0) -> Graph:
    sizes = parse_generated(name)
    if sizes is not None:
        path = generated_path(name, root, seed)
        if path.exists():
            edge_index = torch.from_numpy(np.load(path))
        else:
            edge_index = power_law(*sizes, seed)
        return Graph(name, *sizes[:2], edge_index)
    if not is_available(name, root):
        raise FileNotFoundError(
            f"no files of {name} in '{root / name / 'raw'}': put trnMat.pkl, "
            f'valMat.pkl, tstMat.pkl and the *_feat.npy there, from the folder '
            f'Datasets of https://github.com/HKUDS/DiffMM, and pass the folder '
            f'that holds {name} as --root'
        )
    data = load_dataset(name, root / name, REAL[name])
    return Graph(
        name,
        data['user'].num_nodes,
        data['item'].num_nodes,
        data['user', 'interacts', 'item'].edge_index,
        data,
    )


def generated_path(name: str, root: Path, seed: int = 0) -> Path:
    """Where a graph is that was generated beforehand."""
    return root / f'{name}-{seed}.npy'


def power_law(
    num_users: int,
    num_items: int,
    num_edges: int,
    seed: int = 0,
) -> Tensor:
    """A graph of distinct edges whose user and item degrees follow a power of
    their rank. Every user has an edge. Holds three times the edges at most.
    """
    if not num_users <= num_edges <= num_users * num_items // 4:
        raise ValueError(
            f'edges need to be between the number of users and a quarter of '
            f'all pairs (got {num_edges} of {num_users} x {num_items})'
        )
    rng = np.random.default_rng(seed)
    # Without, ranks would be neighbours in memory.
    user_of = rng.permutation(num_users)
    item_of = rng.permutation(num_items)

    users = np.arange(num_users)
    items = item_of[_ranks(rng, num_users, num_items, ITEM_EXPONENT)]
    key = users * num_items + items
    while key.size < num_edges:
        missing = num_edges - key.size
        draws = [key]
        for start in range(0, missing, CHUNK):
            n = min(CHUNK, missing - start)
            user = user_of[_ranks(rng, n, num_users, USER_EXPONENT)]
            item = item_of[_ranks(rng, n, num_items, ITEM_EXPONENT)]
            draws.append(user * num_items + item)
        key = np.concatenate(draws)
        del draws
        key.sort()
        key = key[np.concatenate([[True], key[1:] != key[:-1]])]
    user, item = np.divmod(key, num_items)
    return torch.from_numpy(np.stack([user, item]))


def _ranks(
    rng: np.random.Generator, n: int, size: int, exponent: float
) -> np.ndarray:
    # The inverse of the continuous cumulative distribution. Uniform numbers
    # are below 1, but rounding may reach the end.
    power = 1 - exponent
    u = rng.random(n)
    rank = (1 + u * ((size + 1) ** power - 1)) ** (1 / power)
    return np.minimum(rank.astype(np.int64) - 1, size - 1)


def to_data(
    graph: Graph,
    channels: int | dict[str, int] = 64,
    seed: int = 0,
) -> HeteroData:
    """The data set that a trainer takes: the real one, or random features (of
    one modality, or of several by name), and an edge of each of up to 1,000
    users held out for each split.
    """
    if graph.data is not None:
        return graph.data
    generator = torch.Generator().manual_seed(seed)
    user, item = graph.edge_index
    data = HeteroData()
    data['user'].num_nodes = graph.num_users
    data['item'].num_nodes = graph.num_items
    if isinstance(channels, int):
        channels = {'image': channels}
    for m, size in channels.items():
        data['item'][f'x_{m}'] = torch.randn(
            graph.num_items, size, generator=generator
        )
    store = data['user', 'interacts', 'item']
    # Edges are sorted by user: a user's first and last, if it has three.
    count = torch.bincount(user, minlength=graph.num_users)
    last = count.cumsum(0) - 1
    chosen = (count >= 3).nonzero().view(-1)[:1000]
    store.val_edge_label_index = graph.edge_index[:, last[chosen]]
    test = last[chosen] - count[chosen] + 1
    store.test_edge_label_index = graph.edge_index[:, test]
    keep = torch.ones_like(user, dtype=torch.bool)
    keep[last[chosen]] = keep[test] = False
    store.edge_index = graph.edge_index[:, keep]
    return data


def main(root: str, *names: str) -> None:
    for name in names:
        sizes = parse_generated(check_name(name))
        assert sizes is not None
        path = generated_path(name, Path(root))
        with atomic_path(str(path)) as temporary:
            with open(temporary, 'wb') as file:
                np.save(file, power_law(*sizes).numpy())


if __name__ == '__main__':
    main(*sys.argv[1:])
