import torch
from torch import Tensor

from diffmm_geo.utils.checks import (
    check_matrix,
    check_matrix_like,
    check_number,
)


def sampled_softmax_loss(
    user_emb: Tensor,
    pos_emb: Tensor,
    neg_emb: Tensor,
    temperature: float = 1.0,
) -> Tensor:
    r"""The sampled softmax loss of the `"On the Effectiveness of Sampled
    Softmax Loss for Item Recommendation" <https://arxiv.org/abs/2201.02327>`_
    paper

    .. math::
        \mathcal{L} = - \frac{1}{B} \sum_{b=1}^{B} \log
        \frac{\exp({\mathbf{e}_{u_b}}^{\top} \mathbf{e}_{i_b} / \tau)}
        {\exp({\mathbf{e}_{u_b}}^{\top} \mathbf{e}_{i_b} / \tau) +
        \sum_{n=1}^{N} \exp({\mathbf{e}_{u_b}}^{\top} \mathbf{e}_{j_n} / \tau)}.

    All pairs share the negative items :math:`j_1, \ldots, j_N`. The paper
    scores by cosines. For these, pass embeddings of unit length.

    Args:
        user_emb (torch.Tensor): The embeddings of users :math:`u_b`.
        pos_emb (torch.Tensor): The embeddings of positive items :math:`i_b`.
        neg_emb (torch.Tensor): The embeddings of negative items :math:`j_n`.
        temperature (float, optional): The temperature :math:`\tau`.
            (default: :obj:`1.0`)

    Shapes:
        - **user_emb, pos_emb:** :math:`(B, d)`
        - **neg_emb:** :math:`(N, d)`
        - **output:** scalar

    Raises:
        ValueError: If :obj:`temperature` is not positive, or shapes do not
            match.

    Example:
        >>> import torch
        >>> from diffmm_geo.nn import sampled_softmax_loss
        >>> user, item = torch.randn(4, 8), torch.randn(4, 8)
        >>> sampled_softmax_loss(user, item, torch.randn(16, 8)).size()
        torch.Size([])
    """
    check_matrix('user_emb', user_emb, finite=False)
    check_matrix_like('pos_emb', pos_emb, user_emb, user_emb.dtype)
    check_matrix(
        'neg_emb',
        neg_emb,
        None,
        user_emb.size(1),
        finite=False,
        dtype=user_emb.dtype,
        device=user_emb.device,
    )
    check_number('temperature', temperature, 0.0, low_open=True)
    positive = (user_emb * pos_emb).sum(dim=-1, keepdim=True) / temperature
    negative = user_emb @ neg_emb.t() / temperature
    score = torch.cat([positive, negative], dim=1)
    return (score.logsumexp(dim=1) - positive.squeeze(1)).mean()
