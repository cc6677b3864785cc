from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.kernels import OURS, TOLERANCE, Case, measure, relative_error
from benchmarks.plots import plot_nodes, plot_roofline
from benchmarks.registry import Record, family
from benchmarks.session import Session
from diffmm_geo.ops.info_nce import info_nce, info_nce_naive

BATCH_SIZE, TEMPERATURE = 1024, 0.5
SIZES, QUICK_SIZES = (10_000, 100_000, 1_000_000), (1_000, 4_000)
DIRECTIONS = ('forward', 'backward')
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


KERNELS: dict[str, Callable] = {
    OURS: info_nce,
    'naive': info_nce_naive,
    'peer-linear-ce': partial(linear_cross_entropy, False),
    'peer-linear-ce-chunked': partial(linear_cross_entropy, True),
    'peer-compile': torch.compile(info_nce_naive),
}
UNAVAILABLE: dict[str, str] = {}
if not hasattr(F, 'linear_cross_entropy'):
    for name in ('peer-linear-ce', 'peer-linear-ce-chunked'):
        UNAVAILABLE[name] = 'needs PyTorch 2.13'
# Only on request, as it takes a while to start.
OPTIONAL = ('peer-compile',)
# Implementations that never hold all cosines.
SPARING = (OURS, 'peer-linear-ce-chunked')


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
            for dtype in session.choose('dtypes', ('float32',), ('float32',)):
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
        for name, loss in KERNELS.items():
            if not self.session.wants(name):
                continue
            if name in OPTIONAL and self.session.options.backends is None:
                continue
            matrices = 0 if name in SPARING else 4 if backward else 3
            yield Case(
                labels={
                    'nodes': nodes,
                    'channels': channels,
                    'dtype': self.dtype,
                    'direction': direction,
                    'backend': name,
                },
                make=partial(self.make, backward),
                fn=partial(loss_and_grad if backward else only_loss, loss),
                check=partial(self.check, backward),
                tolerance=TOLERANCE[self.dtype],
                bytes=moved,
                flops=flops,
                extra=max(4, size) * matrices * BATCH_SIZE * nodes,
                ours=name in (OURS, 'naive'),
                unavailable=UNAVAILABLE.get(name, ''),
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


def only_loss(
    loss: Callable, anchor: Tensor, candidate: Tensor, index: Tensor
) -> tuple[Tensor]:
    with torch.no_grad():
        return (loss(anchor, candidate, index, TEMPERATURE),)


def loss_and_grad(
    loss: Callable, anchor: Tensor, candidate: Tensor, index: Tensor
) -> tuple[Tensor, ...]:
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
