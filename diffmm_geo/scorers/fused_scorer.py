from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from diffmm_geo.ops.topk.topk_scores import topk_scores
from diffmm_geo.scorers.scorer import Scorer
from diffmm_geo.scorers.softmax_regression import softmax_regression
from diffmm_geo.sparse import CSR
from diffmm_geo.utils.checks import (
    check_edge_index,
    check_int,
    check_keys,
    check_number,
    check_same_device,
    check_type,
)

MAX_WEIGHT = 1e6
# Users per block of scores.
HEIGHT = 512


class FusedScorer(Scorer):
    r"""The weighted sum of the scores of several scorers, each standardized
    over the items of a user to mean zero and standard deviation one:

    .. math::
        s_{ui} = \sum_n w_n \frac{s^{(n)}_{ui} - \mu^{(n)}_u}
        {\sigma^{(n)}_u}

    A scorer that gives a user the same score for all items adds zero.

    Args:
        scorers (dict[str, Scorer]): The scorers. They need the same users and
            items and the same device.
        weights (dict[str, float]): The weight :math:`w_n` of each scorer. A
            scorer of weight zero is never called.

    Shapes:
        - **user_index:** :math:`(B)`
        - **output:** :math:`(B, I)`

    Raises:
        ValueError: If the scorers do not fit each other, the weights do not fit
            the scorers or are out of range, or all weights are zero.

    Example:
        >>> import torch
        >>> from diffmm_geo.scorers import FusedScorer, ItemCosine, Popularity
        >>> edge_index = torch.tensor([[0, 0, 1, 1, 2], [0, 1, 1, 2, 2]])
        >>> scorers = {
        ...     'cosine': ItemCosine(edge_index, 3, 4),
        ...     'popularity': Popularity(edge_index, 3, 4),
        ... }
        >>> weights = {'cosine': 1.0, 'popularity': 0.5}
        >>> FusedScorer(scorers, weights)(torch.tensor([0, 2])).size()
        torch.Size([2, 4])
        >>> held_out = torch.tensor([[0], [2]])
        >>> fused = FusedScorer.fit_weights(scorers, held_out, edge_index)
        >>> sorted(fused.weights)
        ['cosine', 'popularity']
    """

    def __init__(
        self, scorers: Mapping[str, Scorer], weights: Mapping[str, float]
    ) -> None:
        first = _check_scorers(scorers)
        super().__init__(*first.size, first.device)
        check_keys('weights', weights, list(scorers))
        unknown = [name for name in weights if name not in scorers]
        if unknown:
            raise ValueError(
                f"'weights' needs to be weights of {list(scorers)} "
                f'(got also {unknown})'
            )
        self.scorers = dict(scorers)
        self.weights = {
            name: check_number(
                f"weights['{name}']", weights[name], -MAX_WEIGHT, MAX_WEIGHT
            )
            for name in scorers
        }
        if not any(self.weights.values()):
            raise ValueError(
                f"'weights' needs a weight other than zero (got {weights})"
            )

    @property
    def needs_interactions(self) -> bool:
        return any(
            self.scorers[name].needs_interactions
            for name, weight in self.weights.items()
            if weight != 0
        )

    def score(self, user_index: Tensor) -> Tensor:
        size = user_index.numel(), self.num_items
        out = torch.zeros(size, device=self.device)
        for name, weight in self.weights.items():
            if weight != 0:
                score = standardize(self.scorers[name](user_index))
                out.add_(score, alpha=weight)
        return out

    @classmethod
    def fit_weights(
        cls,
        scorers: Mapping[str, Scorer],
        edge_label_index: Tensor,
        exclude_edge_index: Tensor | None = None,
        retriever: Scorer | None = None,
        num_candidates: int = 200,
        reg_weight: float = 3.0,
        max_users: int = 10_000,
    ) -> FusedScorer:
        r"""Learns weights from validation interactions
        :math:`\mathcal{H}_u` by a softmax regression over the candidates
        :math:`\mathcal{C}_u` of each user

        .. math::
            \min_{\mathbf{w}} \sum_u
            \frac{-1}{|\mathcal{H}_u \cap \mathcal{C}_u|}
            \sum_{i \in \mathcal{H}_u \cap \mathcal{C}_u} \log
            \frac{\exp(s_{ui})}{\sum_{j \in \mathcal{C}_u} \exp(s_{uj})}
            + \lambda \sum_n {(w_n \sigma_n)}^2,

        where :math:`\sigma_n` is the standard deviation of scorer :math:`n`'s
        standardized scores over all candidates. The problem is convex. Weights
        may be negative. Users without a held-out candidate do not count. The
        weights serve to rank these candidates; see :class:`TwoStageScorer`.

        Args:
            scorers (dict[str, Scorer]): See :class:`FusedScorer`.
            edge_label_index (torch.Tensor): The validation interactions, row 0
                users, row 1 items.
            exclude_edge_index (torch.Tensor, optional): The interactions that
                are not candidates, usually the training set.
                (default: :obj:`None`)
            retriever (Scorer, optional): The scorer whose best items are the
                candidates. (default: :obj:`None`, the sum of all scorers)
            num_candidates (int, optional): The number of candidates of each
                user. (default: :obj:`200`)
            reg_weight (float, optional): The weight :math:`\lambda`.
                (default: :obj:`3.0`)
            max_users (int, optional): The maximum number of validation users.
                If there are more, uses a fixed random sample of them.
                (default: :obj:`10000`)

        Shapes:
            - **edge_label_index:** :math:`(2, |\mathcal{E}_{\mathrm{val}}|)`
            - **exclude_edge_index:** :math:`(2, |\mathcal{E}|)`

        Raises:
            ValueError: If nothing is held out, no held-out interaction is a
                candidate, the scorers do not fit each other, or an index or
                number is out of range.
        """
        first = _check_scorers(scorers)
        size, device = first.size, first.device
        if retriever is None:
            retriever = cls(scorers, dict.fromkeys(scorers, 1.0))
        _check_scorers({**scorers, 'retriever': retriever})
        check_int('num_candidates', num_candidates)
        check_number('reg_weight', reg_weight, 0.0, low_open=True)
        check_int('max_users', max_users)
        held_out = _lists('edge_label_index', edge_label_index, size, device)
        users = held_out.rowptr.diff().nonzero().view(-1)
        if users.numel() == 0:
            raise ValueError(
                "'edge_label_index' needs at least one interaction (got none)"
            )
        if exclude_edge_index is None:
            exclude_edge_index = edge_label_index.new_empty(2, 0)
        excluded = _lists(
            'exclude_edge_index', exclude_edge_index, size, device
        )
        k = min(num_candidates, size[1])
        scores, labels, masks = [], [], []
        for block in _sample(users, max_users).split(HEIGHT):
            candidate = topk_scores(retriever(block), k, excluded.take(block))
            mask, candidate = candidate >= 0, candidate.clamp(min=0)
            lists = held_out.take(block)
            label = torch.zeros(block.numel(), size[1], device=device)
            label[lists.row, lists.col] = 1.0
            label = label.gather(1, candidate) * mask
            # Only users with a held-out candidate count.
            keep = label.any(dim=1)
            score = [
                standardize(scorer(block)).gather(1, candidate)[keep]
                for scorer in scorers.values()
            ]
            scores.append(torch.stack(score, dim=-1))
            labels.append(label[keep])
            masks.append(mask[keep])
        args = torch.cat(scores), torch.cat(labels), torch.cat(masks)
        if args[0].size(0) == 0:
            raise ValueError(
                f"'edge_label_index' needs an interaction with one of the {k} "
                f'candidates of its user (got none)'
            )
        weights = softmax_regression(*args, reg_weight)
        return cls(scorers, dict(zip(scorers, weights.tolist())))

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.num_users}, {self.num_items}, '
            f'weights={self.weights})'
        )


def standardize(score: Tensor) -> Tensor:
    r"""Standardizes rows to mean zero and standard deviation one. Rows of one
    value become zero.

    Shapes:
        - **score:** :math:`(B, I)`
        - **output:** :math:`(B, I)`
    """
    # In rows of one value, differences are exactly zero. In other rows, the
    # largest becomes one, so that squares neither overflow nor vanish.
    out = score - score[:, :1]
    high = out.abs().amax(dim=1, keepdim=True)
    out /= high.masked_fill_(high == 0, 1.0)
    out -= out.mean(dim=1, keepdim=True)
    std = out.square().mean(dim=1, keepdim=True).sqrt_()
    return out.div_(std.masked_fill_(std == 0, 1.0))


def _check_scorers(scorers: Mapping[str, Scorer]) -> Scorer:
    check_keys('scorers', scorers, [])
    if not scorers:
        raise ValueError("'scorers' needs at least one scorer (got none)")
    first = next(iter(scorers.values()))
    for key, scorer in scorers.items():
        name = f"scorers['{key}']"
        check_type(name, scorer, Scorer)
        check_same_device(name, scorer, first.device)
        if scorer.size != first.size:
            raise ValueError(
                f"'{name}' needs {first.num_users} users and "
                f'{first.num_items} items, as the first scorer has '
                f'(got {scorer.num_users} and {scorer.num_items})'
            )
    return first


def _lists(
    name: str, edge_index: Tensor, size: tuple[int, int], device: torch.device
) -> CSR:
    edge_index = check_edge_index(name, edge_index, *size).to(device)
    return CSR.from_edge_index(edge_index, size, coalesce=True)


def _sample(users: Tensor, count: int) -> Tensor:
    if users.numel() <= count:
        return users
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(users.numel(), generator=generator)[:count]
    return users[order.sort().values.to(users.device)]
