from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from .backend import Backend
from .csr_pattern import CSRPattern


class EmbeddingBag(Backend):
    r"""A row of the product as a bag of rows of :math:`\mathbf{X}`,
    :meth:`torch.nn.functional.embedding_bag`: on CPU the kernel of FBGEMM,
    compiled for the number of channels at hand, which fetches rows ahead.
    """

    def sums_half_in_float(self, device: torch.device) -> bool:
        return True

    def matmul(
        self,
        pattern: CSRPattern,
        value: Tensor | None,
        x: Tensor,
    ) -> Tensor:
        on_cpu = x.device.type == 'cpu'
        bags = pattern.padded_bags(torch.get_num_threads() if on_cpu else 1)
        out: Tensor
        out, *_ = torch.embedding_bag(
            x,
            pattern.narrow_col,
            bags.offsets,
            mode=0,  # The sum.
            per_sample_weights=value,
            include_last_offset=True,
        )
        if out.size(0) > pattern.size[0]:
            # Without `data`, autograd would forbid to change a view in place.
            out = out.narrow(0, bags.num_front, pattern.size[0]).data
        return out


@cache
def has_fast_kernel(dtype: torch.dtype) -> bool:
    r"""Whether FBGEMM has a kernel for a type on this CPU; PyTorch's own is
    slower than a product with a CSR matrix.
    """
    return (
        dtype in (torch.float, torch.half, torch.bfloat16)
        and 'fbgemm' in torch.backends.quantized.supported_engines
    )
