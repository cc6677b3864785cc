r"""Losses."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from diffmm_geo.ops.info_nce import Nodes, info_nce, info_nce_types
from diffmm_geo.utils.checks import (
    check_choice,
    check_index,
    check_int,
    check_keys,
    check_matrix,
    check_matrix_like,
    check_number,
)

__all__ = ['CrossModalContrastiveLoss', 'info_nce']

ANCHORS = ('modality', 'main')


def bpr_loss(user_emb: Tensor, pos_emb: Tensor, neg_emb: Tensor) -> Tensor:
    r"""The Bayesian Personalized Ranking loss of the `"BPR: Bayesian
    Personalized Ranking from Implicit Feedback"
    <https://arxiv.org/abs/1205.2618>`_ paper

    .. math::
        \mathcal{L}_{\mathrm{BPR}} = - \frac{1}{B} \sum_{b=1}^{B} \log \sigma
        \left( {\mathbf{e}_{u_b}}^{\top} \mathbf{e}_{i_b} -
        {\mathbf{e}_{u_b}}^{\top} \mathbf{e}_{j_b} \right).
    """
    # One product with the difference replaces a difference of two.
    margin = (user_emb * (pos_emb - neg_emb)).sum(dim=-1)
    return -F.logsigmoid(margin).mean()


class CrossModalContrastiveLoss(torch.nn.Module):
    r"""The cross-modal contrastive loss of the `"DiffMM: Multi-Modal
    Diffusion Model for Recommendation" <https://arxiv.org/abs/2406.11781>`_
    paper (Equations 18 and 19) for the nodes of one type

    .. math::
        \mathcal{L} =
        \begin{cases}
        \sum_{m} \mathrm{InfoNCE}(\mathbf{Z}, \mathbf{V}_m)
        & \text{if anchor is } \texttt{main} \\
        \sum_{m < m^{\prime}} \mathrm{InfoNCE}(\mathbf{V}_m,
        \mathbf{V}_{m^{\prime}}) & \text{if anchor is } \texttt{modality}
        \end{cases}

    with the main view :math:`\mathbf{Z}`, modality views :math:`\mathbf{V}_1,
    \ldots, \mathbf{V}_M` and :func:`~diffmm_geo.nn.info_nce`. DiffMM adds the
    losses of users and items.

    Args:
        temperature (float, optional): The temperature :math:`\tau`.
            (default: :obj:`0.5`)
        anchor (str, optional): Whether to contrast modality views with the
            main view (:obj:`"main"`) or with each other (:obj:`"modality"`).
            If :obj:`None`, uses :obj:`"main"` if the main view is given, and
            :obj:`"modality"` otherwise. (default: :obj:`None`)
        num_candidates (int, optional): The number of nodes from which to
            estimate sums over all nodes; see :func:`~diffmm_geo.nn.info_nce`.
            (default: :obj:`None`, all nodes)

    Shapes:
        - **views:** :math:`(N, F)` for every modality
        - **index:** :math:`(B)`
        - **main** *(optional)*: :math:`(N, F)`
        - **output:** scalar; zero for anchor :obj:`"modality"` with a single
          view

    Raises:
        ValueError: If :obj:`anchor` is unknown, :obj:`main` is missing for
            anchor :obj:`"main"`, or shapes do not fit.

    Example:
        >>> import torch
        >>> from diffmm_geo.nn import CrossModalContrastiveLoss
        >>> contrast = CrossModalContrastiveLoss(anchor='main')
        >>> views = {'image': torch.randn(9, 8), 'text': torch.randn(9, 8)}
        >>> batch = torch.tensor([0, 3, 3, 8])
        >>> contrast(views, batch, main=torch.randn(9, 8)).size()
        torch.Size([])
    """

    def __init__(
        self,
        temperature: float = 0.5,
        anchor: str | None = None,
        num_candidates: int | None = None,
    ) -> None:
        super().__init__()
        self.temperature = check_number(
            'temperature', temperature, 0.0, low_open=True
        )
        if anchor is not None:
            check_choice('anchor', anchor, ANCHORS)
        if num_candidates is not None:
            num_candidates = check_int('num_candidates', num_candidates)
        self.anchor = anchor
        self.num_candidates = num_candidates

    def forward(
        self,
        views: Mapping[str, Tensor],
        index: Tensor,
        main: Tensor | None = None,
    ) -> Tensor:
        check_keys('views', views, [])
        if len(views) == 0:
            raise ValueError("'views' needs at least one view (got none)")
        if self.anchor == 'main' and main is None:
            raise ValueError(
                "'main' needs to be given if anchor='main' (got None)"
            )
        named = {f"views['{name}']": view for name, view in views.items()}
        if main is not None:
            named['main'] = main
        name, first = next(iter(named.items()))
        check_matrix(name, first, finite=False)
        for name, view in named.items():
            check_matrix_like(name, view, first, first.dtype)
        index = check_index('index', index, first.size(0), first.device)
        if index.numel() == 0:
            raise ValueError("'index' needs at least one node (got none)")
        anchor = first if main is None else main
        nodes = Nodes(anchor, list(views.values()), index)
        return self.contrast([nodes], has_main=main is not None)

    def contrast(self, types: Sequence[Nodes], has_main: bool = True) -> Tensor:
        r"""Computes the loss of several node types, whose anchors are the main
        views, if any. There are no checks, which would synchronize a GPU.
        """
        passes = [types]
        if self.anchor == 'modality' or not has_main:
            passes = [
                [
                    replace(
                        x,
                        anchor=x.candidates[n],
                        candidates=x.candidates[n + 1 :],
                    )
                    for x in types
                ]
                for n in range(len(types[0].candidates) - 1)
            ]
        terms = [
            info_nce_types(nodes, self.temperature, self.num_candidates)
            for nodes in passes
        ]
        if not terms:
            return types[0].candidates[0].new_zeros(())
        # A sum from zero would take an operation more.
        return reduce(torch.add, terms)

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}(temperature={self.temperature}, '
            f'anchor={self.anchor!r})'
        )
