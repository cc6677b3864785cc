r"""The InfoNCE loss of one view against another."""

from torch import Tensor

from diffmm_geo.utils.checks import (
    check_index,
    check_int,
    check_matrix,
    check_matrix_like,
    check_number,
    describe,
)

from .naive import info_nce_naive
from .views import info_nce_views

__all__ = ['info_nce', 'info_nce_naive', 'info_nce_views']


def info_nce(
    anchor: Tensor,
    candidate: Tensor,
    index: Tensor,
    temperature: float = 0.5,
    num_candidates: int | None = None,
    sample: tuple[Tensor, Tensor] | None = None,
    backend: str | None = None,
) -> Tensor:
    r"""The InfoNCE loss between two views of the same nodes

    .. math::
        \mathcal{L} = - \frac{1}{B} \sum_{n \in \mathrm{index}} \log
        \frac{\exp(\cos(\mathbf{a}_n, \mathbf{b}_n) / \tau)}
        {\sum_{j=1}^{N} \exp(\cos(\mathbf{a}_n, \mathbf{b}_j) / \tau)}

    (Section 3.3 of the `"DiffMM: Multi-Modal Diffusion Model for
    Recommendation" <https://arxiv.org/abs/2406.11781>`_ paper), in blocks, so
    that the :obj:`[B, N]` matrix of cosines is never held.

    Args:
        anchor (torch.Tensor): The view :math:`\mathbf{a}` of all nodes.
        candidate (torch.Tensor): The view :math:`\mathbf{b}` of all nodes.
        index (torch.Tensor): The nodes to take as anchors; a node may come
            more than once.
        temperature (float, optional): The temperature :math:`\tau`.
            (default: :obj:`0.5`)
        num_candidates (int, optional): If given, the sum over all nodes but
            :math:`n` is estimated from so many, drawn uniformly in each call,
            each of which stands for as many as were left out.
            (default: :obj:`None`, the sum itself)
        sample (tuple[torch.Tensor, torch.Tensor], optional): If given, the
            sum over all nodes but :math:`n` is estimated from these, distinct
            nodes and the weight :math:`1 / \pi_j` of each, where
            :math:`\pi_j` is the probability that it is among them:
            :math:`- \log \pi_j` is added to its logit, which makes the
            estimate of the sum unbiased. :obj:`num_candidates` then draws
            from these. (default: :obj:`None`)
        backend (str, optional): :obj:`"blockwise"`, or :obj:`"triton"` for
            our kernels on a GPU, which take all nodes as candidates. By
            default :obj:`"blockwise"`, unless the
            :meth:`~diffmm_geo.ops.backend` context says :obj:`"triton"`.
            (default: :obj:`None`)

    Shapes:
        - **anchor:** :math:`(N, F)`
        - **candidate:** :math:`(N, F)`
        - **index:** :math:`(B)`
        - **sample:** :math:`(S)` and :math:`(S)`
        - **output:** scalar

    Raises:
        ValueError: If shapes or types do not fit, :obj:`index` is empty or
            out of range, :obj:`temperature` or :obj:`num_candidates` is not
            positive, or the backend is unknown or not available.

    Example:
        >>> import torch
        >>> from diffmm_geo.nn import info_nce
        >>> view = torch.eye(4)  # All nodes are orthogonal.
        >>> loss = info_nce(view, view, torch.tensor([0, 2]), temperature=1.0)
        >>> torch.isclose(loss, torch.tensor(1 + 3 / torch.e).log())
        tensor(True)
    """
    temperature = check_number('temperature', temperature, 0.0, low_open=True)
    check_matrix('anchor', anchor, finite=False)
    check_matrix_like('candidate', candidate, anchor)
    index = check_index('index', index, anchor.size(0), anchor.device)
    if index.numel() == 0:
        raise ValueError("'index' needs at least one node (got none)")
    if num_candidates is not None:
        check_int('num_candidates', num_candidates)
    if sample is not None:
        sample = check_sample(sample, anchor.size(0))
    return info_nce_views(
        anchor,
        [candidate],
        index,
        temperature,
        num_candidates,
        sample,
        backend,
    )


def check_sample(
    sample: tuple[Tensor, Tensor],
    num_nodes: int,
) -> tuple[Tensor, Tensor]:
    r"""Distinct nodes and a positive, finite weight for each."""
    node, weight = sample
    node = check_index('sample', node, num_nodes)
    if node.unique().numel() != node.numel():
        raise ValueError("'sample' needs distinct nodes (got some twice)")
    if weight.size() != node.size():
        raise ValueError(
            f"'sample' needs a weight for each of {node.numel()} nodes "
            f'(got {describe(weight)})'
        )
    if not bool(((weight > 0) & weight.isfinite()).all()):
        raise ValueError(
            "'sample' needs weights that are positive and finite (got others)"
        )
    return node, weight
