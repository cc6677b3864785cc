from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.graphs import Graph
from benchmarks.kernels import OURS, TOLERANCE, Case, measure, relative_error
from benchmarks.plots import plot_channels, plot_edges, plot_roofline
from benchmarks.registry import Record, family
from benchmarks.session import Session
from benchmarks.spmm_peers import DIRECTIONS, PEERS, Peer
from diffmm_geo.ops import available_backends, spmm
from diffmm_geo.ops.spmm import BACKENDS
from diffmm_geo.sparse import BipartiteAdj, SparseMatrix

CHANNELS, QUICK_CHANNELS = (16, 32, 64, 128, 256), (16, 64)
DTYPES = ('float32', 'float16', 'bfloat16')
# The number of gathered elements that the reference holds at a time.
BLOCK_SIZE = 2**24
# Our backends that materialize a message per edge.
GATHERS = ('naive', 'scatter')


@family(
    'spmm',
    'the product of a sparse and a dense matrix',
    (plot_channels, plot_edges, plot_roofline),
    backends=(OURS, *BACKENDS, *PEERS),
    dtypes=(*DTYPES, 'float64'),
    directions=DIRECTIONS,
)
def run(session: Session) -> Iterator[Record]:
    for name in session.graph_names():
        matrix = normalized(session.graph(name), session.options.device)
        for channels, dtype, direction in session.points(
            (CHANNELS, DTYPES, DIRECTIONS),
            (QUICK_CHANNELS, DTYPES[:2], DIRECTIONS),
        ):
            problem = Problem(session, name, matrix, channels, dtype, direction)
            yield from measure(session, 'spmm', problem.cases())


def normalized(graph: Graph, device: torch.device) -> SparseMatrix:
    """The matrix from items to users, with the weights of LightGCN."""
    adj = BipartiteAdj.from_adj(
        graph.edge_index.to(device),
        (graph.num_users, graph.num_items),
        prepare=True,
    )
    assert isinstance(adj.to_user, SparseMatrix)
    return adj.to_user


def kernels(device: torch.device) -> dict[str, Peer]:
    """By name: ours with its default and with each backend, and the peers."""

    def ours(backend: str | None, unavailable: str = '') -> Peer:
        return Peer(
            lambda matrix, value: matrix.set_value(value),
            partial(spmm, backend=backend),
            gathers=backend in GATHERS,
            unavailable=unavailable,
        )

    named = {n: ours(n, reason) for n, reason in backends(device).items()}
    return {OURS: ours(None), **named, **PEERS}


def backends(device: torch.device) -> dict[str, str]:
    """Ours by name, each with why it cannot be measured, if so."""
    available = available_backends(device)
    return {
        n: '' if n in available else f'{n!r} is not installed for {device.type}'
        for n in BACKENDS
        # On a CPU, it is interpreted, which is for tests.
        if n != 'triton' or device.type == 'cuda'
    }


class Problem:
    """A matrix, X, and the direction of the product."""

    def __init__(
        self,
        session: Session,
        graph: str,
        matrix: SparseMatrix,
        channels: int,
        dtype: str,
        direction: str,
    ) -> None:
        self.session, self.matrix = session, matrix
        self.channels, self.direction = channels, direction
        self.labels = {
            'graph': graph,
            'edges': matrix.pattern.nnz,
            'channels': channels,
            'dtype': dtype,
            'direction': direction,
        }
        self.dtype: torch.dtype = getattr(torch, dtype)
        self._inputs: tuple[Tensor, Tensor, Tensor] | None = None
        self._reference: tuple[Tensor, ...] | None = None

    def cases(self) -> Iterator[Case]:
        device = self.session.options.device
        for name, kernel in kernels(device).items():
            chosen = self.session.options.backends
            if not self.session.wants(name):
                continue
            if kernel.optional and chosen is None:
                continue
            if self.direction not in kernel.directions:
                continue
            if kernel.cpu_only and device.type != 'cpu':
                continue
            if self.dtype.itemsize < 4 and not kernel.half:
                continue
            yield self.case(name, kernel)

    def case(self, name: str, kernel: Peer) -> Case:
        fn: Callable
        if self.direction == 'forward':
            fn = partial(forward, kernel)
        elif self.direction == 'grad_x':
            fn = partial(grad_x, kernel)
        else:
            fn = partial(grad_value, kernel)
        edges = self.matrix.pattern.nnz
        size = max(4, self.dtype.itemsize)
        extra = 2 * edges * self.channels * size if kernel.gathers else 0
        if self.direction == 'grad_value' and kernel.dense_grad:
            n, m = self.matrix.size
            extra = 2 * n * m * size
        return Case(
            labels={**self.labels, 'backend': name},
            make=partial(self.make, kernel),
            fn=fn,
            check=self.check,
            tolerance=TOLERANCE[self.labels['dtype']],
            bytes=self.bytes(),
            flops=self.flops(),
            edges=edges,
            gathered=self.gathered(),
            extra=extra,
            most_edges=kernel.most_edges,
            ours=name not in PEERS,
            unavailable=kernel.unavailable,
        )

    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Values, X, and the gradient that comes back."""
        if self._inputs is None:
            n, m = self.matrix.size
            device = self.session.options.device
            torch.manual_seed(self.session.options.seed)
            self._inputs = (
                self.matrix.value.to(self.dtype),
                torch.randn(m, self.channels, device=device).to(self.dtype),
                torch.randn(n, self.channels, device=device).to(self.dtype),
            )
        return self._inputs

    def make(self, kernel: Peer) -> tuple:
        value, x, grad = self.inputs()
        if self.direction == 'forward':
            return kernel.build(self.matrix, value), x
        if self.direction == 'grad_x':
            x = x.clone().requires_grad_()
            return kernel.build(self.matrix, value), x, grad
        return self.matrix, value.clone().requires_grad_(), x, grad

    def check(self, out: tuple[Tensor, ...]) -> float:
        if self._reference is None:
            self._reference = reference(
                self.matrix, *self.inputs(), self.direction
            )
        return relative_error(out, self._reference)

    def bytes(self) -> float:
        (n, m), edges = self.matrix.size, self.matrix.pattern.nnz
        s, c = self.dtype.itemsize, self.channels
        # Pointers, columns and values; X; the output.
        out = 8 * (n + 1) + (8 + s) * edges + s * c * (m + n)
        if self.direction == 'grad_x':
            out += 8 * (m + 1) + (8 + s) * edges + s * c * (n + m)
        elif self.direction == 'grad_value':
            # Rows and columns; both operands; the output.
            out += 16 * edges + s * c * (n + m) + s * edges
        return out

    def gathered(self) -> float:
        # The gradients of X and of the values gather once more.
        times = 1 if self.direction == 'forward' else 2
        edges = self.matrix.pattern.nnz
        return times * edges * self.channels * self.dtype.itemsize

    def flops(self) -> float:
        out = 2 * self.matrix.pattern.nnz * self.channels
        return out if self.direction == 'forward' else 2 * out


def forward(kernel: Peer, a: Any, x: Tensor) -> tuple[Tensor]:
    return (kernel.matmul(a, x),)


def grad_x(
    kernel: Peer, a: Any, x: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor]:
    out = kernel.matmul(a, x)
    return out.detach(), *torch.autograd.grad(out, x, grad)


def grad_value(
    kernel: Peer, matrix: SparseMatrix, value: Tensor, x: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor]:
    # A learned weight needs a new operand in each step.
    out = kernel.matmul(kernel.build(matrix, value), x)
    return out.detach(), *torch.autograd.grad(out, value, grad)


def reference(
    matrix: SparseMatrix,
    value: Tensor,
    x: Tensor,
    grad: Tensor,
    direction: str,
) -> tuple[Tensor, ...]:
    """The formula of the naive backend in float64, by blocks of edges."""
    value, x, grad = value.double(), x.double(), grad.double()
    row, col = matrix.pattern.row, matrix.pattern.col
    out = torch.zeros_like(grad)
    back = torch.zeros_like({'grad_value': value}.get(direction, x))
    block = max(1, BLOCK_SIZE // x.size(1))
    for start in range(0, value.numel(), block):
        edges = slice(start, start + block)
        i, j, w = row[edges], col[edges], value[edges].view(-1, 1)
        out.index_add_(0, i, w * x[j])
        if direction == 'grad_x':
            back.index_add_(0, j, w * grad[i])
        elif direction == 'grad_value':
            back[edges] = (grad[i] * x[j]).sum(dim=1)
    return (out,) if direction == 'forward' else (out, back)
