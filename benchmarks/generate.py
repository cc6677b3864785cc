from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from benchmarks.graphs import GENERATED, REAL, Graph
from benchmarks.kernels import OURS, Case, measure
from benchmarks.plots import plot_roofline
from benchmarks.registry import Record, family
from benchmarks.session import Session
from diffmm_geo.nn import ModalityDiffusion

# The paper's size, and a smaller one for generated graphs, which have many
# pairs of users and items.
HIDDEN = {name: 1000 for name in REAL}
OTHER_HIDDEN = 64
MODALITY = 'image'
# The number of users whose edges are checked.
NUM_CHECKED = 256
TOLERANCE = 1e-4
DENSE = 'peer-dense'


@family(
    'generate',
    'the edges of the diffusion, one per user',
    (plot_roofline,),
    backends=(OURS, DENSE),
)
def run(session: Session) -> Iterator[Record]:
    for name in session.graph_names((*REAL, *GENERATED[:2])):
        graph = session.graph(name)
        default = HIDDEN.get(name, OTHER_HIDDEN)
        problem = Problem(session, graph, session.options.hidden or default)
        yield from measure(session, 'generate', problem.cases())


class Problem:
    """A graph and an untrained denoiser."""

    def __init__(self, session: Session, graph: Graph, hidden: int) -> None:
        torch.manual_seed(session.options.seed)
        self.session, self.graph, self.hidden = session, graph, hidden
        device = session.options.device
        self.diffusion = ModalityDiffusion(
            graph.num_items, [MODALITY], hidden_channels=hidden
        ).to(device)
        self.edge_index = graph.edge_index.to(device)
        self._reference: Tensor | None = None

    def cases(self) -> Iterator[Case]:
        graph, hidden = self.graph, self.hidden
        users, items = graph.num_users, graph.num_items
        for name in (OURS, DENSE):
            if not self.session.wants(name):
                continue
            dense = name == DENSE
            yield Case(
                labels={
                    'graph': graph.name,
                    'users': users,
                    'items': items,
                    'edges': graph.num_edges,
                    'hidden': hidden,
                    'dtype': 'float32',
                    'backend': name,
                },
                make=lambda: (self.diffusion, self.edge_index),
                fn=partial(sample_dense if dense else sample, users),
                check=self.check,
                tolerance=TOLERANCE,
                # Edges; both weights; the new edges.
                bytes=16 * graph.num_edges + 8 * items * hidden + 16 * users,
                # The least work: the last product, and the product of the
                # weights.
                flops=2 * hidden * items * (users + hidden),
                edges=users,
                extra=4 * 4 * users * items if dense else 0,
                ours=not dense,
            )

    def check(self, edge_index: Tensor) -> float:
        """By how much the chosen item scores below the best one in the dense
        process in float64, for some users.
        """
        graph, (user, item) = self.graph, self.edge_index
        step = -(-graph.num_users // NUM_CHECKED)
        score = self._reference
        if score is None:
            rows = len(range(0, graph.num_users, step))
            x_start = torch.zeros(
                rows, graph.num_items, dtype=torch.double, device=user.device
            )
            mask = user % step == 0
            x_start[user[mask] // step, item[mask]] = 1.0
            score = copy.deepcopy(self.diffusion).double()
            self._reference = score = score.sample(MODALITY, x_start)
        if edge_index.size(1) != graph.num_users:
            return float('inf')
        chosen = score.gather(1, edge_index[1, ::step].view(-1, 1)).view(-1)
        best = score.amax(dim=1)
        return float((best - chosen).norm() / best.norm())


def sample(
    num_users: int, diffusion: ModalityDiffusion, edge_index: Tensor
) -> Tensor:
    return diffusion.sample_edges(MODALITY, edge_index, num_users)


def sample_dense(
    num_users: int, diffusion: ModalityDiffusion, edge_index: Tensor
) -> Tensor:
    """The paper's process, on the rows of all users at once."""
    x_start = torch.zeros(
        num_users, diffusion.num_items, device=edge_index.device
    )
    x_start[edge_index[0], edge_index[1]] = 1.0
    item = diffusion.sample(MODALITY, x_start).argmax(dim=1)
    return torch.stack([torch.arange(num_users, device=item.device), item])
