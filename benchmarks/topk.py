from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from benchmarks.graphs import GENERATED, REAL, Graph
from benchmarks.kernels import OURS, TOLERANCE, Case, measure
from benchmarks.plots import plot_roofline
from benchmarks.registry import Record, family
from benchmarks.session import Session
from diffmm_geo.ops import topk_items
from diffmm_geo.ops.item_lists import ItemLists

K, CHANNELS, DENSE = 20, 64, 'peer-dense'
# Users whose items are checked.
NUM_CHECKED = 256


@family(
    'topk',
    f'the top {K} items of all users, without those observed',
    (plot_roofline,),
    backends=(OURS, DENSE),
    dtypes=('float32', 'bfloat16'),
)
def run(session: Session) -> Iterator[Record]:
    dtypes = session.choose('dtypes', ('float32',), ('float32',))
    for name in session.graph_names((*REAL, *GENERATED[:2])):
        for dtype in dtypes:
            problem = Problem(session, session.graph(name), dtype)
            yield from measure(session, 'topk', problem.cases())


class Problem:
    def __init__(self, session: Session, graph: Graph, dtype: str) -> None:
        self.session, self.graph, self.dtype = session, graph, dtype
        device = session.options.device
        torch.manual_seed(session.options.seed)
        self.user, self.item = (
            torch.randn(n, CHANNELS, device=device).to(getattr(torch, dtype))
            for n in (graph.num_users, graph.num_items)
        )
        self.edge_index = graph.edge_index.to(device)

    def cases(self) -> Iterator[Case]:
        users, items = self.graph.num_users, self.graph.num_items
        size = self.user.element_size()
        exclude = ItemLists.from_edge_index(self.edge_index, users)
        for name in (OURS, DENSE):
            if not self.session.wants(name):
                continue
            dense = name == DENSE
            inputs = self.user, self.item, self.edge_index if dense else exclude
            yield Case(
                labels={
                    'graph': self.graph.name,
                    'users': users,
                    'items': items,
                    'dtype': self.dtype,
                    'backend': name,
                },
                make=partial(tuple, inputs),
                fn=topk_dense if dense else topk,
                check=self.check,
                tolerance=TOLERANCE[self.dtype],
                # Embeddings; excluded items; what is chosen.
                bytes=size * CHANNELS * (users + items)
                + 8 * self.edge_index.size(1)
                + 8 * K * users,
                flops=2 * CHANNELS * users * items,
                extra=2 * size * users * items if dense else 0,
                ours=not dense,
            )

    def check(self, chosen: Tensor) -> float:
        """How far below the best scores the chosen ones are, in float64, for
        some users.
        """
        step = -(-self.graph.num_users // NUM_CHECKED)
        score = self.user[::step].double() @ self.item.double().t()
        user, item = self.edge_index
        mask = user % step == 0
        score[user[mask] // step, item[mask]] = float('-inf')
        best = score.topk(K, dim=1).values
        got = score.gather(1, chosen[::step])
        return float((best - got).norm() / best.norm())


def topk(user: Tensor, item: Tensor, exclude: ItemLists) -> Tensor:
    return topk_items(user, item, K, exclude=exclude)


def topk_dense(user: Tensor, item: Tensor, edge_index: Tensor) -> Tensor:
    """What scripts do: all scores at once."""
    score = user @ item.t()
    score[edge_index[0], edge_index[1]] = float('-inf')
    return score.topk(K, dim=1).indices
