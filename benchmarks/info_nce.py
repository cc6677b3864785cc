from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.kernels import OURS, TOLERANCE, Case, measure, relative_error
from benchmarks.plots import plot_nodes, plot_roofline
from benchmarks.registry import Record, family
from benchmarks.session import Session
from diffmm_geo.ops.device import WITH_TRITON
from diffmm_geo.ops.info_nce import Nodes, info_nce_naive, info_nce_views

BATCH_SIZE, TEMPERATURE = 1024, 0.5
SIZES, QUICK_SIZES = (10_000, 100_000, 1_000_000), (1_000, 4_000)
DTYPES, DIRECTIONS = ('float32', 'bfloat16'), ('forward', 'backward')
# The number of cosines that the reference holds at a time: 1 GiB in float64.
BLOCK_SIZE = 2**27


def linear_cross_entropy(
    chunked: bool,
    anchor: Tensor,
    candidate: Tensor,
    index: Tensor,
    temperature: float,
) -> Tensor:
    """InfoNCE with PyTorch's fused classifier loss (since 2.13)."""
    options = torch.nn.LinearCrossEntropyOptions() if chunked else None
    query = F.normalize(anchor[index], dim=-1) / temperature
    return F.linear_cross_entropy(
        query, F.normalize(candidate, dim=-1), index, options=options
    )


def info_nce(
    anchor: Tensor,
    candidate: Tensor,
    index: Tensor,
    temperature: float,
    **options: str,
) -> Tensor:
    """As models call it: checking indices would wait for a GPU."""
    nodes = Nodes(anchor, [candidate], index)
    return info_nce_views(nodes, temperature, **options)


@dataclass(frozen=True)
class Kernel:
    loss: Callable
    # Whether it holds all cosines.
    holds_all: bool = False
    on_cpu: bool = True
    dtypes: tuple[str, ...] = tuple(TOLERANCE)
    most_channels: float = math.inf
    # Only on request, as it takes a while to start.
    optional: bool = False
    # What is not installed, if so.
    unavailable: str = ''


NO_CE = '' if hasattr(F, 'linear_cross_entropy') else 'needs PyTorch 2.13'
NO_TRITON = '' if WITH_TRITON else "'triton' is not installed"
triton = partial(info_nce, backend='triton')
KERNELS = {
    OURS: Kernel(info_nce),
    # On a CPU, it is interpreted, which is for tests.
    'triton': Kernel(triton, on_cpu=False, unavailable=NO_TRITON),
    'triton-tf32x3': Kernel(
        partial(triton, precision='tf32x3'),
        on_cpu=False,
        dtypes=('float32',),
        most_channels=64,
        unavailable=NO_TRITON,
    ),
    'naive': Kernel(info_nce_naive, holds_all=True),
    'peer-linear-ce': Kernel(
        partial(linear_cross_entropy, False), holds_all=True, unavailable=NO_CE
    ),
    'peer-linear-ce-chunked': Kernel(
        partial(linear_cross_entropy, True), unavailable=NO_CE
    ),
    'peer-compile': Kernel(
        torch.compile(info_nce_naive), holds_all=True, optional=True
    ),
}


@family(
    'info_nce',
    f'the contrastive loss of {BATCH_SIZE} anchors against all nodes',
    (plot_nodes, plot_roofline),
    backends=tuple(KERNELS),
    dtypes=tuple(TOLERANCE),
    directions=DIRECTIONS,
)
def run(session: Session) -> Iterator[Record]:
    for nodes in session.choose('sizes', SIZES, QUICK_SIZES):
        for channels in session.choose('channels', (64,), (64,)):
            for dtype in session.choose('dtypes', DTYPES, DTYPES[:1]):
                problem = Problem(session, nodes, channels, dtype)
                for direction in session.choose(
                    'directions', DIRECTIONS, DIRECTIONS
                ):
                    cases = problem.cases(direction)
                    yield from measure(session, 'info_nce', cases)


class Problem:
    """Two views of the same nodes, and the anchors of a batch."""

    def __init__(
        self, session: Session, nodes: int, channels: int, dtype: str
    ) -> None:
        self.session, self.dtype = session, dtype
        generator = torch.Generator().manual_seed(session.options.seed)
        anchor = torch.randn(nodes, channels, generator=generator)
        # Views are correlated, like trained ones.
        noise = torch.randn(nodes, channels, generator=generator)
        index = torch.randint(nodes, (BATCH_SIZE,), generator=generator)
        to = partial(torch.Tensor.to, device=session.options.device)
        self.anchor = to(anchor, dtype=getattr(torch, dtype))
        self.candidate = to(anchor + noise, dtype=getattr(torch, dtype))
        self.index = to(index)
        self._reference: tuple[Tensor, ...] | None = None

    def cases(self, direction: str) -> Iterator[Case]:
        nodes, channels = self.anchor.size()
        size = self.anchor.element_size()
        backward = direction == 'backward'
        flops = (6 if backward else 2) * BATCH_SIZE * nodes * channels
        # Anchors and candidates; the gradients of both.
        moved = size * channels * (BATCH_SIZE + nodes) + 8 * BATCH_SIZE
        if backward:
            moved += 2 * size * channels * nodes
        options = self.session.options
        for name, kernel in KERNELS.items():
            if not self.session.wants(name) or self.dtype not in kernel.dtypes:
                continue
            if kernel.optional and options.backends is None:
                continue
            if not kernel.on_cpu and options.device.type == 'cpu':
                continue
            if channels > kernel.most_channels:
                continue
            matrices = 0 if not kernel.holds_all else 4 if backward else 3
            yield Case(
                labels={
                    'nodes': nodes,
                    'channels': channels,
                    'dtype': self.dtype,
                    'direction': direction,
                    'backend': name,
                },
                make=partial(self.make, backward),
                fn=partial(
                    loss_and_grad if backward else only_loss, kernel.loss
                ),
                check=partial(self.check, backward),
                tolerance=TOLERANCE[self.dtype],
                bytes=moved,
                flops=flops,
                extra=max(4, size) * matrices * BATCH_SIZE * nodes,
                ours=not name.startswith('peer'),
                unavailable=kernel.unavailable,
            )

    def make(self, backward: bool) -> tuple[Tensor, Tensor, Tensor]:
        return (
            self.anchor.clone().requires_grad_(backward),
            self.candidate.clone().requires_grad_(backward),
            self.index,
        )

    def check(self, backward: bool, out: tuple[Tensor, ...]) -> float:
        if self._reference is None:
            self._reference = reference(self.anchor, self.candidate, self.index)
        return relative_error(out, self._reference[: 3 if backward else 1])


def lowered(x: Tensor) -> AbstractContextManager:
    """Products in half precision for such views, as in training."""
    if x.dtype.itemsize == 2:
        return torch.autocast(x.device.type, x.dtype)
    return nullcontext()


def only_loss(
    loss: Callable, anchor: Tensor, candidate: Tensor, index: Tensor
) -> tuple[Tensor]:
    with torch.no_grad(), lowered(anchor):
        return (loss(anchor, candidate, index, TEMPERATURE),)


def loss_and_grad(
    loss: Callable, anchor: Tensor, candidate: Tensor, index: Tensor
) -> tuple[Tensor, ...]:
    with lowered(anchor):
        out = loss(anchor, candidate, index, TEMPERATURE)
    return out.detach(), *torch.autograd.grad(out, (anchor, candidate))


def reference(
    anchor: Tensor, candidate: Tensor, index: Tensor
) -> tuple[Tensor, ...]:
    """The naive loss and its gradients in float64, by blocks of anchors."""
    anchor, candidate = (
        x.double().requires_grad_() for x in (anchor, candidate)
    )
    total = anchor.new_zeros(())
    for part in index.split(max(1, BLOCK_SIZE // anchor.size(0))):
        loss = info_nce_naive(anchor, candidate, part, TEMPERATURE)
        loss = loss * (part.numel() / index.numel())
        loss.backward()
        total += loss.detach()
    return total, anchor.grad, candidate.grad
