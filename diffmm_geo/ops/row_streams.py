from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class RowStreams:
    r"""Random numbers for consecutive blocks of rows of a batch, each drawn
    from a stream of its own: those of a block are the same wherever it is
    computed, and whichever other blocks are computed beside it.

    Args:
        generators (list[torch.Generator]): The stream of each block at hand.
        sizes (list[int]): The number of its rows.
        num_blocks (int): The number of blocks of the whole batch.
        num_rows (int): The number of rows of the whole batch.
    """

    generators: Sequence[torch.Generator]
    sizes: Sequence[int]
    num_blocks: int
    num_rows: int

    @classmethod
    def from_seeds(
        cls,
        seeds: Sequence[int],
        sizes: Sequence[int],
        num_blocks: int,
        num_rows: int,
        device: torch.device,
    ) -> RowStreams:
        r"""A stream for the seed of each block."""
        generators = [torch.Generator(device).manual_seed(s) for s in seeds]
        return cls(generators, sizes, num_blocks, num_rows)

    def with_sizes(self, sizes: Sequence[int]) -> RowStreams:
        r"""The same streams, for blocks of other sizes."""
        return replace(self, sizes=sizes)

    def shares(self, count: int) -> list[int]:
        r"""The share of each block in what the batch has :obj:`count` of: at
        least one, and no more than it has rows.
        """
        share = max(1, count // self.num_blocks)
        return [min(share, size) for size in self.sizes]

    def parts(self, x: Tensor) -> Iterator[tuple[Tensor, torch.Generator]]:
        r"""The rows of each block, and its stream."""
        return zip(x.split(list(self.sizes)), self.generators)

    def normal_(self, x: Tensor) -> Tensor:
        r"""Fills rows with standard normal numbers."""
        for part, generator in self.parts(x):
            part.normal_(generator=generator)
        return x

    def randint(self, high: int, device: torch.device) -> Tensor:
        r"""An integer from zero up to :obj:`high` for each row."""
        out = torch.empty(sum(self.sizes), dtype=torch.long, device=device)
        for part, generator in self.parts(out):
            part.random_(high, generator=generator)
        return out


def normal_(x: Tensor, streams: RowStreams | None) -> Tensor:
    r"""Fills rows with standard normal numbers from streams of theirs, or
    else from the global one.
    """
    return x.normal_() if streams is None else streams.normal_(x)
