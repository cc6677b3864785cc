import torch
from torch import Tensor

CHUNK_SIZE = 2**16
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def equal_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    r"""Groups the equal rows of a matrix.

    Shapes:
        - **x:** :math:`(N, F)`
        - **output:** the group of each row, :math:`(N)`, and a row of each
          group, :math:`(G)`
    """
    bits = x.contiguous().view(INTEGERS[x.element_size()])
    rows = torch.arange(x.size(0), device=x.device)
    # A row's key is the sum of its bits times random words.
    generator = torch.Generator(x.device).manual_seed(0)
    word = torch.randint(
        -(2**62), 2**62, (x.size(1),), generator=generator, device=x.device
    )
    chunks = bits.split(CHUNK_SIZE)
    key = torch.cat([(chunk * word).sum(dim=1) for chunk in chunks])
    distinct, group = key.unique(return_inverse=True)
    if distinct.numel() == x.size(0):
        return rows, rows
    first = rows.new_full(distinct.size(), x.size(0))
    first = first.scatter_reduce(0, group, rows, 'amin')
    # Keys may collide, so rows are compared as well.
    equal = all(
        chunk.equal(bits[first[part]])
        for chunk, part in zip(chunks, group.split(CHUNK_SIZE))
    )
    return (group, first) if equal else (rows, rows)
