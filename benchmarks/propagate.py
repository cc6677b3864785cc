from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn import LGConv
from torch_geometric.typing import WITH_TORCH_SPARSE

from benchmarks.graphs import Graph
from benchmarks.kernels import OURS, TOLERANCE, Case, measure, relative_error
from benchmarks.plots import plot_channels, plot_edges, plot_roofline
from benchmarks.registry import Record, family
from benchmarks.session import Session
from benchmarks.spmm import CHANNELS, QUICK_CHANNELS, backends
from benchmarks.spmm import reference as spmm_reference
from diffmm_geo.nn.conv.bipartite_lg_conv import BipartiteLGConv
from diffmm_geo.ops import propagate
from diffmm_geo.ops.spmm import BACKENDS
from diffmm_geo.sparse import BipartiteAdj, SparseMatrix

DTYPES, DIRECTIONS = ('float32', 'bfloat16'), ('forward', 'grad_x')
CONV = BipartiteLGConv()


@dataclass(frozen=True)
class Kernel:
    """One propagation step. With `joint`, it takes users and items in one
    matrix, as in PyG's models, and the joint graph in some form.
    """

    step: Callable
    build: Callable[[Any], Any] = lambda adj: adj
    joint: bool = False
    gathers: bool = False
    # On graphs with more, it takes too long.
    most_edges: float = math.inf
    # What is not installed, if so.
    unavailable: str = ''


def joint_edges(adj: BipartiteAdj) -> tuple[Tensor, Tensor]:
    """The joint graph with its self-loops, row 0 sources."""
    matrix, users = adj.to_user, adj.to_user.size[0]
    pattern = matrix.pattern
    loop = torch.cat([adj.user_loop, adj.item_loop])
    node = torch.arange(loop.numel(), device=loop.device)
    user, item = pattern.row, pattern.col + users
    source = torch.cat([item, user, node])
    target = torch.cat([user, item, node])
    weight = torch.cat([matrix.value, matrix.value, loop])
    return torch.stack([source, target]), weight


def joint_csr(index_dtype: torch.dtype, adj: BipartiteAdj) -> Tensor:
    (source, target), weight = joint_edges(adj)
    index = torch.stack([target, source])
    csr = torch.sparse_coo_tensor(index, weight).to_sparse_csr()
    return torch.sparse_csr_tensor(
        csr.crow_indices().to(index_dtype),
        csr.col_indices().to(index_dtype),
        csr.values(),
        csr.size(),
        check_invariants=False,
    )


def joint_torch_sparse(adj: BipartiteAdj) -> Any:
    from torch_sparse import SparseTensor

    (source, target), weight = joint_edges(adj)
    return SparseTensor(row=target, col=source, value=weight)


def lg_conv(adj: Any, x: Tensor) -> Tensor:
    """PyG's layer, on a normalized graph."""
    conv = LGConv(normalize=False)
    return conv(x, *adj) if isinstance(adj, tuple) else conv(x, adj)


def kernels(device: torch.device) -> dict[str, Kernel]:
    out = {OURS: Kernel(propagate), 'conv': Kernel(CONV.step)}
    for name, reason in backends(device).items():
        step = partial(propagate, backend=name)
        out[name] = Kernel(step, unavailable=reason)
    out['peer-lgconv'] = Kernel(
        lg_conv, joint_edges, True, True, most_edges=1e6
    )
    for name, dtype in (('int32', torch.int32), ('int64', torch.int64)):
        build = partial(joint_csr, dtype)
        out[f'peer-lgconv-csr-{name}'] = Kernel(lg_conv, build, True)
    out['peer-lgconv-torch-sparse'] = Kernel(
        lg_conv,
        joint_torch_sparse,
        True,
        unavailable='' if WITH_TORCH_SPARSE else 'needs torch-sparse',
    )
    return out


@family(
    'propagate',
    'a step of LightGCN, users and items at once',
    (plot_channels, plot_edges, plot_roofline),
    backends=tuple(dict.fromkeys([*kernels(torch.device('cpu')), *BACKENDS])),
    dtypes=tuple(TOLERANCE),
    directions=DIRECTIONS,
)
def run(session: Session) -> Iterator[Record]:
    for name in session.graph_names():
        problem = Problem(session, session.graph(name))
        for channels, dtype, direction in session.points(
            (CHANNELS, DTYPES, DIRECTIONS), (QUICK_CHANNELS, DTYPES, DIRECTIONS)
        ):
            problem.set(channels, dtype)
            yield from measure(session, 'propagate', problem.cases(direction))


class Problem:
    def __init__(self, session: Session, graph: Graph) -> None:
        self.session, self.graph = session, graph
        self.adj = BipartiteAdj.from_adj(
            graph.edge_index.to(session.options.device),
            (graph.num_users, graph.num_items),
            prepare=True,
        )

    def set(self, channels: int, dtype: str) -> None:
        self.channels, self.dtype = channels, dtype
        self._reference: dict[str, tuple[Tensor, ...]] = {}
        torch.manual_seed(self.session.options.seed)
        nodes = self.graph.num_users + self.graph.num_items
        self.x, self.grad = torch.randn(
            2, nodes, channels, device=self.session.options.device
        ).to(getattr(torch, dtype))

    def cases(self, direction: str) -> Iterator[Case]:
        edges, size = self.graph.num_edges, self.x.element_size()
        backward = direction == 'grad_x'
        # Two matrices; self-loops; X and the output.
        moved = 2 * (8 + size) * edges + 8 * self.x.size(0)
        moved += size * self.x.size(0) + 2 * size * self.x.numel()
        flops = 4 * edges * self.channels + 2 * self.x.numel()
        for name, kernel in kernels(self.session.options.device).items():
            if not self.session.wants(name):
                continue
            messages = 4 * edges * self.channels * max(4, size)
            yield Case(
                labels={
                    'graph': self.graph.name,
                    'edges': edges,
                    'channels': self.channels,
                    'dtype': self.dtype,
                    'direction': direction,
                    'backend': name,
                },
                make=partial(self.make, kernel, backward),
                fn=partial(run_kernel, kernel, backward),
                check=partial(self.check, direction),
                tolerance=TOLERANCE[self.dtype],
                bytes=(1 + backward) * moved,
                flops=(1 + backward) * flops,
                edges=edges,
                gathered=(1 + backward) * 2 * edges * self.channels * size,
                most_edges=kernel.most_edges,
                extra=messages if kernel.gathers else 0,
                ours=not kernel.joint,
                unavailable=kernel.unavailable,
            )

    def make(self, kernel: Kernel, backward: bool) -> tuple:
        adj = self.adj.to(dtype=self.x.dtype)
        x: list[Tensor] = [self.x]
        if not kernel.joint:
            users = self.graph.num_users
            x = [self.x[:users], self.x[users:]]
        x = [part.clone().requires_grad_(backward) for part in x]
        return kernel.build(adj), x, self.grad

    def check(
        self, direction: str, out: tuple[tuple[Tensor, ...], ...]
    ) -> float:
        if direction not in self._reference:
            # The graph is symmetric: the backward pass is the forward pass on
            # the gradient.
            self._reference[direction] = tuple(
                self.reference(x)
                for x in (self.x, self.grad)[: 1 + (direction == 'grad_x')]
            )
        joint = tuple(torch.cat(parts).detach() for parts in out)
        return relative_error(joint, self._reference[direction])

    def reference(self, x: Tensor) -> Tensor:
        adj, users = self.adj.to(dtype=x.dtype), self.graph.num_users
        x_user, x_item = x[:users], x[users:]
        halves = []
        for matrix, source, target, loop in (
            (adj.to_user, x_item, x_user, adj.user_loop),
            (adj.to_item, x_user, x_item, adj.item_loop),
        ):
            assert isinstance(matrix, SparseMatrix) and loop is not None
            (out,) = spmm_reference(
                matrix, matrix.value, source, target, 'forward'
            )
            halves.append(out + loop.double().view(-1, 1) * target.double())
        return torch.cat(halves)


def run_kernel(
    kernel: Kernel, backward: bool, adj: Any, x: list[Tensor], grad: Tensor
) -> tuple[tuple[Tensor, ...], ...]:
    out = kernel.step(adj, *x)
    out = (out,) if kernel.joint else tuple(out)
    if not backward:
        return (out,)
    parts = grad.split([part.size(0) for part in out])
    return out, torch.autograd.grad(out, x, parts)
