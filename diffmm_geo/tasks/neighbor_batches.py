from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch_geometric.typing
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.loader import LinkNeighborLoader
from torch_geometric.sampler import NeighborSampler
from torch_geometric.typing import EdgeType, NodeType

from diffmm_geo.sparse import BipartiteAdj, SparseMatrix
from diffmm_geo.tasks.seed_probability import SeedProbability
from diffmm_geo.utils.memory import release_memory

# A loader copies its links: it gets this many batches of them at a time.
NUM_BATCHES = 4


@dataclass(frozen=True)
class NeighborBatch:
    r"""Triples and the subgraph that was sampled around their nodes.

    Args:
        triples (torch.Tensor): Users, positive and negative items, as nodes
            of the subgraph, :obj:`[3, B]`.
        n_id_dict (dict[str, torch.Tensor]): The nodes of the subgraph. Those
            of the triples come first.
        adj_dict (dict): The graphs of the subgraph.
        sample_dict (dict[str, tuple[torch.Tensor, torch.Tensor]]): The nodes
            of the triples, as nodes of the subgraph, and the inverse of the
            probability that a batch contains them.
    """

    triples: Tensor
    n_id_dict: dict[NodeType, Tensor]
    adj_dict: dict[EdgeType, BipartiteAdj]
    sample_dict: dict[NodeType, tuple[Tensor, Tensor]]


class NeighborBatches:
    r"""Samples a subgraph around the nodes of each batch of triples with
    PyG's :class:`~torch_geometric.loader.LinkNeighborLoader`, over several
    bipartite graphs between the same users and items at once.

    To expand a node, it samples :math:`s_v` of its :math:`d_v` edges in each
    graph, without replacement. The edges are shuffled first, because
    torch-sparse prefers edges at the front. With

    .. math::
        \mathbf{x}^{\prime}_v = \frac{d_v}{s_v} \sum_{w \in \mathcal{S}(v)}
        \frac{\mathbf{x}_w}{\sqrt{(d_v + 1)(d_w + 1)}} +
        \frac{\mathbf{x}_v}{d_v + 1}

    and the degrees of the whole graph, a propagation step is an unbiased
    (Horvitz-Thompson) estimate of the step over the whole graph. The estimate
    of the loss is biased, because several steps share their samples and the
    loss is not linear. This bias vanishes as more neighbors are sampled.

    Args:
        adj_dict (dict): The prepared adjacencies.
        edge_type (tuple[str, str, str]): The edge type of the triples.
        num_neighbors (list[int]): The number of edges to sample for each node
            and graph in each hop, or :obj:`-1` for all edges.
        num_layers (int, optional): The number of layers of the
            :class:`~diffmm_geo.nn.DiffMM` that propagates over the subgraph
            of :obj:`num_layers + 2` hops. If given, edges that do not influence
            its output at the triples are left out. These are most edges of the
            last hop. (default: :obj:`None`)

    Raises:
        ImportError: If neither torch-sparse nor pyg-lib is installed.
    """

    def __init__(
        self,
        adj_dict: Mapping[EdgeType, BipartiteAdj],
        edge_type: EdgeType,
        num_neighbors: Sequence[int],
        num_layers: int | None = None,
    ) -> None:
        check_sampler()
        self.adj_dict = adj_dict
        self.edge_type = edge_type
        self._data = HeteroData()
        to_user, _ = adj_dict[edge_type].matrices('adj_dict')
        for node, size in zip(('user', 'item'), to_user.size):
            self._data[node].num_nodes = size
        # Names of our own, as the order of sampling may depend on them.
        self._names = {
            t: (('item', f'{n}_to', 'user'), ('user', f'{n}_to', 'item'))
            for n, t in enumerate(adj_dict)
        }
        for t, names in self._names.items():
            for name, matrix in zip(names, adj_dict[t].matrices('adj_dict')):
                self._data[name].edge_index = _shuffled(matrix).cpu()
        self._sampler = NeighborSampler(
            self._data,
            self._fan_outs(num_neighbors, num_layers),
            is_sorted=True,
        )
        # From here on, only the pointers of the sampler are needed.
        rows = self._sampler.row_dict
        for key in rows:
            rows[key] = rows[key].clone()
        for name in self._data.edge_types:
            self._data[name].edge_index = torch.empty(2, 0, dtype=torch.long)

    def _fan_outs(
        self,
        num_neighbors: Sequence[int],
        num_layers: int | None,
    ) -> dict[EdgeType, list[int]]:
        out = {}
        for t, names in self._names.items():
            for name in names:
                hops = len(num_neighbors)
                if num_layers is not None:
                    # The aggregation of DiffMM takes one step over each
                    # graph, and one more to users over the observed one.
                    twice = t == self.edge_type and name[2] == 'user'
                    hops = num_layers + 1 + int(twice)
                out[name] = [
                    n if hop < hops else 0
                    for hop, n in enumerate(num_neighbors)
                ]
        return out

    def sample(
        self,
        batches: Sequence[Tensor],
        probability: SeedProbability,
    ) -> Iterator[NeighborBatch]:
        r"""The subgraph of each batch of triples.

        Shapes:
            - **batches:** users, positive and negative items :math:`(3, B)`,
              all of the same size except the last
        """
        device = batches[0].device if batches else None
        for start in range(0, len(batches), NUM_BATCHES):
            for batch in self._loader(batches[start : start + NUM_BATCHES]):
                yield self._batch(batch.to(device), probability)
            # Subgraphs differ in size: freed memory rarely fits the next.
            release_memory()

    def _loader(self, batches: Sequence[Tensor]) -> LinkNeighborLoader:
        # A triple is two links. A batch of links holds those of one batch of
        # triples.
        links = [
            torch.stack([user.repeat(2), torch.cat([positive, negative])])
            for user, positive, negative in batches
        ]
        return LinkNeighborLoader(
            self._data,
            self._sampler.num_neighbors,
            (self._names[self.edge_type][1], torch.cat(links, dim=1).cpu()),
            batch_size=links[0].size(1),
            neighbor_sampler=self._sampler,
        )

    def _batch(
        self,
        batch: HeteroData,
        probability: SeedProbability,
    ) -> NeighborBatch:
        user_type, _, item_type = self.edge_type
        n_id_dict = {
            user_type: batch['user'].n_id,
            item_type: batch['item'].n_id,
        }
        user, item = batch[self._names[self.edge_type][1]].edge_label_index
        triples = torch.stack([user.chunk(2)[0], *item.chunk(2)])
        sample_dict = {}
        for t, node, inclusion in zip(
            n_id_dict, (user, item), probability(triples.size(1))
        ):
            seed = torch.arange(int(node.max()) + 1, device=node.device)
            weight = 1.0 / inclusion[n_id_dict[t][seed]]
            sample_dict[t] = (seed, weight)
        adj_dict = {
            t: subgraph(
                adj,
                n_id_dict[user_type],
                n_id_dict[item_type],
                *(batch[name].edge_index for name in self._names[t]),
            )
            for t, adj in self.adj_dict.items()
        }
        return NeighborBatch(triples, n_id_dict, adj_dict, sample_dict)


def subgraph(
    adj: BipartiteAdj,
    user: Tensor,
    item: Tensor,
    to_user: Tensor,
    to_item: Tensor,
) -> BipartiteAdj:
    r"""The sampled part of a graph. Its weights make a step over it an
    unbiased estimate of one over the whole graph. The sampled edges
    :obj:`to_user` and :obj:`to_item` (row 0 sources, row 1 targets) count
    nodes in :obj:`user` and :obj:`item`.
    """
    assert adj.user_loop is not None and adj.item_loop is not None
    loops = adj.user_loop[user], adj.item_loop[item]

    def part(
        matrix: SparseMatrix,
        edge_index: Tensor,
        target: Tensor,
        loop: Tensor,
        source_loop: Tensor,
    ) -> SparseMatrix:
        source, node = edge_index
        sampled = torch.bincount(node, minlength=target.numel())
        degree = matrix.pattern.rowptr.diff()[target]
        weight = (loop[node] * source_loop[source]).sqrt()
        weight = weight * (degree / sampled.clamp(min=1)).to(weight)[node]
        size = (target.numel(), source_loop.numel())
        return SparseMatrix.from_coo(node, source, weight, size)

    matrices = adj.matrices('adj_dict')
    return BipartiteAdj(
        part(matrices[0], to_user, user, *loops),
        part(matrices[1], to_item, item, *loops[::-1]),
        user_loop=loops[0],
        item_loop=loops[1],
    )


def check_neighbors(num_neighbors: Sequence[int], num_layers: int) -> None:
    r"""Whether there are hops enough for a model of so many layers, and PyG
    can sample neighbors.
    """
    if len(num_neighbors) < num_layers + 2:
        raise ValueError(
            f"'num_neighbors' needs num_layers + 2 = {num_layers + 2} hops at "
            f'least (got {num_neighbors})'
        )
    check_sampler()


def check_sampler() -> None:
    r"""Whether PyG can sample neighbors."""
    if not (
        torch_geometric.typing.WITH_TORCH_SPARSE
        or torch_geometric.typing.WITH_PYG_LIB
    ):
        raise ImportError(
            "batching='neighbor' needs torch-sparse (or pyg-lib), which is "
            "not installed; the extra 'sparse' has it: "
            "pip install --no-build-isolation 'diffmm_geo[sparse]'"
        )


def _shuffled(matrix: SparseMatrix) -> Tensor:
    r"""The entries (row 0 columns, row 1 rows), sorted by row as samplers need
    them, and shuffled within a row. Of d entries, torch-sparse (0.6.18)
    samples the last with probability (s - 1) / (d - 1) instead of s / d;
    shuffled, all are equally likely over epochs.
    """
    pattern = matrix.pattern
    order = torch.randperm(pattern.nnz, device=pattern.col.device)
    order = order[pattern.row[order].argsort(stable=True)]
    return torch.stack([pattern.col[order], pattern.row[order]])
