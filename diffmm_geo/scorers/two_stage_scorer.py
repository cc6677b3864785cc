from __future__ import annotations

from torch import Tensor

from diffmm_geo.ops.topk.topk_scores import topk_scores
from diffmm_geo.scorers.fused_scorer import standardize
from diffmm_geo.scorers.scorer import Scorer
from diffmm_geo.sparse import CSR
from diffmm_geo.utils.checks import (
    check_edge_index,
    check_int,
    check_same_device,
    check_type,
)


class TwoStageScorer(Scorer):
    r"""Two scorers in a row: the first retrieves candidates, and the second
    ranks them. All other items follow in the order of the first.

    Args:
        retriever (Scorer): The scorer whose best items are the candidates.
        ranker (Scorer): The scorer that ranks the candidates, *e.g.*, from
            :meth:`FusedScorer.fit_weights`.
        edge_index (torch.Tensor): The observed interactions, row 0 users, row 1
            items. They are not candidates.
        num_candidates (int, optional): The number of candidates of each user.
            (default: :obj:`200`)

    Shapes:
        - **edge_index:** :math:`(2, |\mathcal{E}|)`
        - **user_index:** :math:`(B)`
        - **output:** :math:`(B, I)`

    Raises:
        ValueError: If the scorers do not fit each other, or a number or an
            index is out of range.

    Example:
        >>> import torch
        >>> from diffmm_geo.scorers import ItemCosine, Popularity
        >>> from diffmm_geo.scorers import TwoStageScorer
        >>> edge_index = torch.tensor([[0, 0, 1, 1, 2], [0, 1, 1, 2, 3]])
        >>> popularity = Popularity(edge_index, 3, 4)
        >>> cosine = ItemCosine(edge_index, 3, 4)
        >>> scorer = TwoStageScorer(popularity, cosine, edge_index, 2)
        >>> scorer.recommend(torch.tensor([0]), 2, edge_index)
        tensor([[2, 3]])
    """

    def __init__(
        self,
        retriever: Scorer,
        ranker: Scorer,
        edge_index: Tensor,
        num_candidates: int = 200,
    ) -> None:
        check_type('retriever', retriever, Scorer)
        check_type('ranker', ranker, Scorer)
        super().__init__(*retriever.size, retriever.device)
        check_same_device('ranker', ranker, self.device)
        if ranker.size != self.size:
            raise ValueError(
                f"'ranker' needs {self.num_users} users and {self.num_items} "
                f"items, as 'retriever' has (got {ranker.num_users} and "
                f'{ranker.num_items})'
            )
        edge_index = check_edge_index('edge_index', edge_index, *self.size)
        self.retriever, self.ranker = retriever, ranker
        self.num_candidates = check_int('num_candidates', num_candidates)
        self.observed = CSR.from_edge_index(
            edge_index.to(self.device), self.size, coalesce=True
        )

    @property
    def values_per_user(self) -> int:
        members = self.retriever, self.ranker
        return max(scorer.values_per_user for scorer in members)

    @property
    def needs_interactions(self) -> bool:
        members = self.retriever, self.ranker
        return any(scorer.needs_interactions for scorer in members)

    def score(self, user_index: Tensor) -> Tensor:
        out = standardize(self.retriever(user_index))
        observed = self.observed.take(user_index)
        k = min(self.num_candidates, self.num_items)
        candidate = topk_scores(out, k, observed)
        # Users with fewer candidates repeat their first one.
        first = candidate[:, :1].clamp(min=0)
        candidate = candidate.where(candidate >= 0, first)
        score = self.ranker(user_index).gather(1, candidate)
        highest = out.amax(dim=1, keepdim=True)
        out += score.amin(dim=1, keepdim=True) - highest - 1.0
        return out.scatter_(1, candidate, score)

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.num_users}, {self.num_items}, '
            f'num_candidates={self.num_candidates})'
        )
