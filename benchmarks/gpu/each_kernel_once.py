"""Runs each of our kernels, forward and backward, on odd sizes:
`python -m benchmarks.gpu.each_kernel_once DEVICE`.
"""

from __future__ import annotations

import sys

import torch

from benchmarks.graphs import power_law
from diffmm_geo.ops import propagate, spmm
from diffmm_geo.ops.bipartite_adj import BipartiteAdj
from diffmm_geo.ops.info_nce import info_nce

USERS, ITEMS, EDGES, CHANNELS = 61, 43, 500, 17


def main(device: torch.device) -> None:
    adj = BipartiteAdj.from_adj(
        power_law(USERS, ITEMS, EDGES), (USERS, ITEMS), prepare=True
    ).to(device)
    for dtype in (torch.float, torch.bfloat16):
        x_user, x_item = (
            torch.randn(
                n, CHANNELS, device=device, dtype=dtype
            ).requires_grad_()
            for n in (USERS, ITEMS)
        )
        matrix = adj.to_user
        value = matrix.value.to(dtype).requires_grad_()
        outs = [
            spmm(matrix.set_value(value), x_item, backend='triton'),
            *propagate(adj.to(dtype=dtype), x_user, x_item, backend='triton'),
            *propagate(adj.dropout(0.5), x_user, x_item, backend='triton'),
        ]
        index = torch.arange(11, device=device)
        loss = info_nce(x_user, 2 * x_user, index, backend='triton')
        (loss + sum(out.float().sum() for out in outs)).backward()
        assert x_user.grad.isfinite().all() and value.grad.isfinite().all()
    if device.type == 'cuda':
        torch.cuda.synchronize()


if __name__ == '__main__':
    main(torch.device(sys.argv[1]))
