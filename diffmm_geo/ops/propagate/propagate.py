from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from diffmm_geo.ops.dense import once_differentiable
from diffmm_geo.ops.spmm.backend import Backend, HalfStep
from diffmm_geo.ops.spmm.naive import Naive
from diffmm_geo.ops.spmm.registry import find_backend
from diffmm_geo.ops.spmm.spmm import back_in_front, side_by_side
from diffmm_geo.ops.spmm.triton import Triton
from diffmm_geo.sparse import BipartiteAdj
from diffmm_geo.utils.checks import check_matrix, check_type

from .naive import propagate_naive


def propagate(
    adj: BipartiteAdj,
    x_user: Tensor,
    x_item: Tensor,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    r"""One step of light graph convolution over a user-item graph, in both
    directions

    .. math::
        \mathbf{X}^{\prime}_u = \mathbf{A}_u \mathbf{X}_i +
        \mathrm{diag}(\mathbf{l}_u) \mathbf{X}_u
        \qquad
        \mathbf{X}^{\prime}_i = \mathbf{A}_i \mathbf{X}_u +
        \mathrm{diag}(\mathbf{l}_i) \mathbf{X}_i

    where :math:`\mathbf{A}_i = \mathbf{A}_u^{\top}` without edge dropout. The
    backward pass is a step with the transposed matrices. Features are stored
    for the backward pass only if values or self-loops require gradients. The
    backend :obj:`"naive"` alone has second derivatives.

    Args:
        adj (BipartiteAdj): A prepared adjacency.
        x_user (torch.Tensor): The features of users.
        x_item (torch.Tensor): The features of items, of the same type.
        backend (str, optional): The name of the backend, see
            :meth:`~diffmm_geo.ops.spmm`. :obj:`'triton'` runs the step in one
            kernel. (default: :obj:`None`)

    Shapes:
        - **x_user:** :math:`(*, |\mathcal{U}|, F)`,
          **x_item:** :math:`(*, |\mathcal{I}|, F)`
        - **output:** the shapes of :obj:`x_user` and :obj:`x_item`

    Raises:
        ValueError: If the adjacency is not prepared, the shapes or types of
            features do not match, or the backend is unknown or unavailable.

    Example:
        >>> import torch
        >>> from diffmm_geo.ops import propagate
        >>> from diffmm_geo.sparse import BipartiteAdj
        >>> edge_index = torch.tensor([[0, 0, 1], [0, 1, 2]])
        >>> adj = BipartiteAdj.from_adj(edge_index, (2, 3), prepare=True)
        >>> x_user, x_item = propagate(adj, torch.ones(2, 8), torch.ones(3, 8))
        >>> x_user.size(), x_item.size()
        (torch.Size([2, 8]), torch.Size([3, 8]))
    """
    check_type('adj', adj, BipartiteAdj)
    to_user, _ = adj.matrices()
    for name, x, rows in zip(
        ('x_user', 'x_item'), (x_user, x_item), to_user.size
    ):
        check_matrix(
            name, x, rows, finite=False, leading=True, device=to_user.device
        )
    sizes = [[*x.size()[:-2], x.size(-1)] for x in (x_user, x_item)]
    if sizes[0] != sizes[1] or x_user.dtype != x_item.dtype:
        raise ValueError(
            f"'x_user' and 'x_item' need the same type, number of channels and "
            f'leading dimensions (got {x_user.dtype}, {list(x_user.size())} '
            f'and {x_item.dtype}, {list(x_item.size())})'
        )
    return propagate_prepared(adj, x_user, x_item, backend)


def propagate_prepared(
    adj: BipartiteAdj,
    x_user: Tensor,
    x_item: Tensor,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Equals :func:`~diffmm_geo.ops.propagate`, without checks."""
    found = find_backend(backend, x_user.device, x_user.dtype)
    if isinstance(found, Naive):
        return propagate_naive(adj, x_user, x_item)
    out_user, out_item = _Propagate.apply(
        found,
        adj,
        adj.to_user.value,
        adj.to_item.value,
        adj.user_loop,
        adj.item_loop,
        side_by_side(x_user).contiguous(),
        side_by_side(x_item).contiguous(),
    )
    return (
        back_in_front(out_user, x_user.size()),
        back_in_front(out_item, x_item.size()),
    )


def _step(
    backend: Backend,
    user: HalfStep,
    item: HalfStep,
    x_user: Tensor,
    x_item: Tensor,
) -> tuple[Tensor, Tensor]:
    if isinstance(backend, Triton):
        from .triton_kernels import propagate_triton

        return propagate_triton(user, item, x_user, x_item)
    return (
        backend(user, x_item, x_user),
        backend(item, x_user, x_item),
    )


class _Propagate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        backend: Backend,
        adj: BipartiteAdj,
        user_value: Tensor | None,
        item_value: Tensor | None,
        user_loop: Tensor | None,
        item_loop: Tensor | None,
        x_user: Tensor,
        x_item: Tensor,
    ) -> tuple[Tensor, Tensor]:
        ctx.backend, ctx.adj = backend, adj
        keeps = any(ctx.needs_input_grad[2:6])
        kept = user_value, item_value, user_loop, item_loop, x_user, x_item
        ctx.save_for_backward(*(kept if keeps else ()))
        return _step(
            backend,
            HalfStep.of(adj.to_user, user_loop, adj.user_scale),
            HalfStep.of(adj.to_item, item_loop, adj.item_scale),
            x_user.detach(),
            x_item.detach(),
        )

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_user: Tensor, grad_item: Tensor
    ) -> tuple[Tensor | None, ...]:
        adj, needs = ctx.adj, ctx.needs_input_grad
        grad_user, grad_item = grad_user.contiguous(), grad_item.contiguous()
        out: list[Tensor | None] = [None] * 8
        if any(needs[2:6]):
            *_, user_loop, item_loop, x_user, x_item = ctx.saved_tensors
            for n, matrix, grad, x in (
                (2, adj.to_user, grad_user, x_item),
                (3, adj.to_item, grad_item, x_user),
            ):
                if needs[n]:
                    value = ctx.backend.sddmm(matrix.pattern, grad, x)
                    out[n] = value.to(matrix.value.dtype)
            for n, loop, grad, x in (
                (4, user_loop, grad_user, x_user),
                (5, item_loop, grad_item, x_item),
            ):
                if needs[n]:
                    out[n] = (grad.to(loop.dtype) * x).sum(-1).to(loop.dtype)

        # Gradients of users flow back through the matrix that reads users.
        user = HalfStep.of(adj.to_item, adj.user_loop, adj.user_scale, True)
        item = HalfStep.of(adj.to_user, adj.item_loop, adj.item_scale, True)
        if needs[6] and needs[7]:
            out[6:] = _step(ctx.backend, user, item, grad_user, grad_item)
        elif needs[6]:
            out[6] = ctx.backend(user, grad_item, grad_user)
        elif needs[7]:
            out[7] = ctx.backend(item, grad_user, grad_item)
        return tuple(out)
