r"""The InfoNCE loss between views of the same nodes."""

from torch import Tensor

from diffmm_geo.utils.checks import (
    check_choice,
    check_index,
    check_int,
    check_matrix,
    check_matrix_like,
    check_number,
)

from .naive import info_nce_naive
from .triton import PRECISIONS
from .views import Nodes, info_nce_types, info_nce_views

__all__ = [
    'Nodes',
    'info_nce',
    'info_nce_naive',
    'info_nce_types',
    'info_nce_views',
]


def info_nce(
    anchor: Tensor,
    candidate: Tensor,
    index: Tensor,
    temperature: float = 0.5,
    num_candidates: int | None = None,
    backend: str | None = None,
    precision: str = 'ieee',
) -> Tensor:
    r"""The InfoNCE loss between two views of the same nodes

    .. math::
        \mathcal{L} = - \frac{1}{B} \sum_{n \in \mathrm{index}} \log
        \frac{\exp(\cos(\mathbf{a}_n, \mathbf{b}_n) / \tau)}
        {\sum_{j=1}^{N} \exp(\cos(\mathbf{a}_n, \mathbf{b}_j) / \tau)}

    (Section 3.3 of the `"DiffMM: Multi-Modal Diffusion Model for
    Recommendation" <https://arxiv.org/abs/2406.11781>`_ paper). It computes the
    :obj:`[B, N]` matrix of cosines in blocks, and never stores the full matrix.

    Args:
        anchor (torch.Tensor): The view :math:`\mathbf{a}` of all nodes.
        candidate (torch.Tensor): The view :math:`\mathbf{b}` of all nodes.
        index (torch.Tensor): The anchor nodes, which may repeat.
        temperature (float, optional): The temperature :math:`\tau`.
            (default: :obj:`0.5`)
        num_candidates (int, optional): If given, estimates the sum over all
            nodes except :math:`n` from this number of nodes, drawn uniformly
            in each call. (default: :obj:`None`)
        backend (str, optional): :obj:`"blockwise"`, or, without sampling,
            :obj:`"triton"` for GPU kernels or :obj:`"naive"` for the formula as
            written, which alone has second derivatives. If not given, uses
            :obj:`"blockwise"` unless the :meth:`~diffmm_geo.ops.backend`
            context selects one of the others. (default: :obj:`None`)
        precision (str, optional): The precision of the products of
            :obj:`"triton"` for views in single precision: :obj:`"ieee"`, or on
            tensor cores :obj:`"tf32x3"` (three products of numbers rounded to
            10 bits, nearly as exact, for up to 64 channels) or :obj:`"tf32"`
            (one such product). (default: :obj:`"ieee"`)

    Shapes:
        - **anchor:** :math:`(N, F)`
        - **candidate:** :math:`(N, F)`
        - **index:** :math:`(B)`
        - **output:** scalar

    Raises:
        ValueError: If shapes or types do not match, :obj:`index` is empty or
            out of range, :obj:`temperature` or :obj:`num_candidates` is not
            positive, the backend is unknown or unavailable, or
            :obj:`precision` has no effect for the backend or the type.

    Example:
        >>> import torch
        >>> from diffmm_geo.nn import info_nce
        >>> view = torch.eye(4)  # All nodes are orthogonal.
        >>> loss = info_nce(view, view, torch.tensor([0, 2]), temperature=1.0)
        >>> torch.isclose(loss, torch.tensor(1 + 3 / torch.e).log())
        tensor(True)
    """
    check_choice('precision', precision, PRECISIONS)
    temperature = check_number('temperature', temperature, 0.0, low_open=True)
    check_matrix('anchor', anchor, finite=False)
    check_matrix_like('candidate', candidate, anchor)
    index = check_index('index', index, anchor.size(0), anchor.device)
    if index.numel() == 0:
        raise ValueError("'index' needs at least one node (got none)")
    if num_candidates is not None:
        num_candidates = check_int('num_candidates', num_candidates)
    nodes = Nodes(anchor, [candidate], index)
    return info_nce_views(
        nodes, temperature, num_candidates, backend, precision
    )
