import torch.nn.functional as F
from torch import Tensor


def bpr_loss(user_emb: Tensor, pos_emb: Tensor, neg_emb: Tensor) -> Tensor:
    r"""The Bayesian Personalized Ranking loss of the `"BPR: Bayesian
    Personalized Ranking from Implicit Feedback"
    <https://arxiv.org/abs/1205.2618>`_ paper

    .. math::
        \mathcal{L}_{\mathrm{BPR}} = - \frac{1}{B} \sum_{b=1}^{B} \log \sigma
        \left( {\mathbf{e}_{u_b}}^{\top} \mathbf{e}_{i_b} -
        {\mathbf{e}_{u_b}}^{\top} \mathbf{e}_{j_b} \right).

    Args:
        user_emb (torch.Tensor): The embeddings of users :math:`u_b`.
        pos_emb (torch.Tensor): The embeddings of positive items :math:`i_b`.
        neg_emb (torch.Tensor): The embeddings of negative items :math:`j_b`.

    Shapes:
        - **user_emb, pos_emb, neg_emb:** :math:`(B, d)`
        - **output:** scalar
    """
    # One product with the difference replaces a difference of two.
    margin = (user_emb * (pos_emb - neg_emb)).sum(dim=-1)
    return -F.logsigmoid(margin).mean()
