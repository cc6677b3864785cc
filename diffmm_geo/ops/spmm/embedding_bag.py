from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from diffmm_geo.sparse import CSR

from .backend import Backend

# Numbers of empty bags to try, each way, and the least cost to save.
NUM_TRIED = 16
MIN_SAVED = 0.1
# Writing a bag takes as long as reading one to three entries.
BAG_COST = 3


class EmbeddingBag(Backend):
    r"""A row of the product as a bag of rows of :math:`\mathbf{X}`, by
    :meth:`torch.nn.functional.embedding_bag`. On CPU, FBGEMM compiles its
    kernel for the number of channels, and prefetches rows.
    """

    def sums_half_in_float(self, device: torch.device) -> bool:
        return True

    def matmul(self, pattern: CSR, value: Tensor | None, x: Tensor) -> Tensor:
        on_cpu = x.device.type == 'cpu'
        num_threads = torch.get_num_threads() if on_cpu else 1
        index, num_front = pattern.narrow, 0
        offsets = index.rowptr
        if num_threads > 1:
            offsets, num_front = pattern.derive(padded_bags, num_threads)
        out: Tensor
        out, *_ = torch.embedding_bag(
            x,
            index.col,
            offsets,
            mode=0,  # The sum.
            per_sample_weights=value,
            include_last_offset=True,
        )
        if out.size(0) > pattern.size[0]:
            # Without `data`, autograd would forbid in-place changes of a view.
            out = out.narrow(0, num_front, pattern.size[0]).data
        return out


def padded_bags(csr: CSR, num_threads: int) -> tuple[Tensor, int]:
    r"""The offsets of the rows as bags, and the number of empty bags in front.
    PyTorch gives each thread the same number of consecutive bags, regardless of
    their entries. Up to as many empty bags as there are rows, in front and
    behind, move the borders between threads if this reduces the work of the
    busiest one. Sums and their order do not change.
    """
    rowptr, num_rows = csr.narrow.rowptr, csr.size[0]
    part = torch.linspace(0, 1, NUM_TRIED, dtype=torch.double)
    # Columns vary the bags per thread, and rows the part of the empty ones in
    # front.
    share = (-(-num_rows // num_threads) * (1 + part)).long()
    front = (part.view(-1, 1) * (num_threads * share - num_rows)).long()
    border = torch.arange(num_threads + 1) * share.view(-1, 1)
    border = (border - front.unsqueeze(-1)).clamp(0, num_rows)
    cost = rowptr[border].diff().amax(-1) + BAG_COST * share
    i, j = divmod(int(cost.argmin()), NUM_TRIED)
    if cost[i, j] > (1 - MIN_SAVED) * cost[0, 0]:
        return rowptr, 0
    num_front = int(front[i, j])
    num_back = num_threads * int(share[j]) - num_front - num_rows
    parts = rowptr.new_zeros(num_front), rowptr, rowptr[-1:].expand(num_back)
    return torch.cat(parts), num_front


@cache
def has_fast_kernel(dtype: torch.dtype) -> bool:
    r"""Whether FBGEMM has a kernel for a type on this CPU. PyTorch's own kernel
    is slower than a product with a CSR matrix.
    """
    return (
        dtype in (torch.float, torch.half, torch.bfloat16)
        and 'fbgemm' in torch.backends.quantized.supported_engines
    )
