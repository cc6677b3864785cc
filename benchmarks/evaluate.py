from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.graphs import GENERATED, REAL, to_data
from benchmarks.kernels import OURS, Case, measure
from benchmarks.registry import Record, family
from benchmarks.session import Session
from diffmm_geo.evaluation import evaluate

K, CHANNELS = 20, 64
DENSE = 'peer-dense'
TOLERANCE = 1e-3


@family(
    'evaluate',
    'Recall, Precision and NDCG@20 of all users with held-out items',
    backends=(OURS, DENSE),
)
def run(session: Session) -> Iterator[Record]:
    for name in session.graph_names((*REAL, *GENERATED[:2])):
        yield from measure(session, 'evaluate', cases(session, name))


def cases(session: Session, name: str) -> Iterator[Case]:
    graph, device = session.graph(name), session.options.device
    data = to_data(graph)
    store = data['user', 'interacts', 'item']
    train = store.edge_index.to(device)
    test = store.test_edge_label_index.to(device)
    users = test[0].unique().numel()

    # Embeddings that rank some of the held-out items high.
    torch.manual_seed(session.options.seed)
    item = torch.randn(graph.num_items, CHANNELS, device=device)
    user = torch.randn(graph.num_users, CHANNELS, device=device)
    user.index_add_(0, test[0], item[test[1]])
    reference = evaluate_dense(user.double(), item.double(), test, train)

    def check(out: dict[str, float]) -> float:
        errors = [abs(out[k] - v) / v for k, v in reference.items()]
        return float(torch.tensor(errors).max())

    for backend, fn in ((OURS, evaluate), (DENSE, evaluate_dense)):
        if not session.wants(backend):
            continue
        yield Case(
            labels={
                'graph': name,
                'users': users,
                'items': graph.num_items,
                'dtype': 'float32',
                'backend': backend,
            },
            make=lambda: (user, item, test, train),
            fn=fn,
            check=check,
            tolerance=TOLERANCE,
            # Embeddings of these users and all items; held-out edges.
            bytes=4 * CHANNELS * (users + item.size(0)) + 16 * test.size(1),
            flops=2 * CHANNELS * users * graph.num_items,
            extra=0 if backend == OURS else 8 * users * graph.num_items,
            ours=backend == OURS,
        )


def evaluate_dense(
    user_emb: Tensor, item_emb: Tensor, test: Tensor, train: Tensor
) -> dict[str, float]:
    """The usual script: all scores at once, masked, and their top-k."""
    num_users, num_items = user_emb.size(0), item_emb.size(0)
    users, row = test[0].unique(return_inverse=True)
    score = user_emb[users] @ item_emb.t()

    position = users.new_full((num_users,), -1)
    position[users] = torch.arange(users.numel(), device=users.device)
    seen = train[:, position[train[0]] >= 0]
    score[position[seen[0]], seen[1]] = float('-inf')

    truth = torch.zeros(
        users.numel(), num_items, dtype=torch.bool, device=users.device
    )
    truth[row, test[1]] = True
    hit = truth.gather(1, score.topk(K).indices).double()
    count = truth.sum(dim=1)
    discount = 1 / torch.arange(2, K + 2, device=users.device).double().log2()
    ideal = discount.cumsum(0)[count.clamp(max=K) - 1]
    return {
        f'recall@{K}': float((hit.sum(dim=1) / count).mean()),
        f'precision@{K}': float(hit.mean()),
        f'ndcg@{K}': float(((hit @ discount) / ideal).mean()),
    }
