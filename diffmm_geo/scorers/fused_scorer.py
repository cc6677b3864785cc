from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch_geometric.metrics import LinkPredRecall

from diffmm_geo.ops.topk.topk_scores import topk_scores
from diffmm_geo.scorers.scorer import Scorer
from diffmm_geo.sparse import CSR
from diffmm_geo.utils.checks import (
    check_edge_index,
    check_int,
    check_k,
    check_keys,
    check_number,
    check_same_device,
    check_type,
    describe,
)

GRID = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0)
MAX_WEIGHT = 1e6
# Scores that `fit_weights` holds: 512 MiB.
MAX_SCORES = 2**27
# Users in a block of scores.
HEIGHT = 512


class FusedScorer(Scorer):
    r"""The weighted sum of the scores of several scorers, each standardized
    over the items of a user to mean zero and standard deviation one:

    .. math::
        s_{ui} = \sum_n w_n \frac{s^{(n)}_{ui} - \mu^{(n)}_u}
        {\sigma^{(n)}_u}

    A scorer that gives a user the same score for all items adds zero.

    Args:
        scorers (dict[str, Scorer]): The scorers, of the same users and items
            and on the same device.
        weights (dict[str, float]): The weight :math:`w_n` of each scorer. A
            scorer of weight zero is never called.

    Shapes:
        - **user_index:** :math:`(B)`
        - **output:** :math:`(B, I)`

    Raises:
        ValueError: If the scorers do not fit each other, the weights do not fit
            the scorers, or all weights are zero.

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
        >>> FusedScorer.fit_weights(scorers, held_out, edge_index, k=1)
        FusedScorer(3, 4, weights={'cosine': 1.0, 'popularity': 0.0})
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

    def score(self, user_index: Tensor) -> Tensor:
        size = user_index.numel(), self.num_items
        out = torch.zeros(size, device=self.device)
        for name, weight in self.weights.items():
            if weight != 0:
                score = standardize(self.scorers[name](user_index))
                out.add_(score, alpha=weight)
        return out

    @classmethod
    @torch.no_grad()
    def fit_weights(
        cls,
        scorers: Mapping[str, Scorer],
        edge_label_index: Tensor,
        exclude_edge_index: Tensor | None = None,
        k: int = 20,
        grid: Sequence[float] = GRID,
        max_users: int = 10_000,
    ) -> FusedScorer:
        r"""Chooses weights by the Recall@k of validation interactions. The best
        scorer has weight one. The others start at zero, and get the best weight
        of the grid one after the other, in the order of their own Recall@k,
        until no change of a single weight helps. Of equal weights, the
        smallest is chosen. The result is deterministic.

        Each scorer scores each validation user once. The scores are kept
        meanwhile, which takes at most 512 MiB, or twice as much for one scorer.

        Args:
            scorers (dict[str, Scorer]): See :class:`FusedScorer`.
            edge_label_index (torch.Tensor): The validation interactions, row 0
                users, row 1 items.
            exclude_edge_index (torch.Tensor, optional): The interactions to
                leave out of the ranking, usually the training set.
                (default: :obj:`None`)
            k (int, optional): The length of the ranking. (default: :obj:`20`)
            grid (list[float], optional): The weights to choose from, and zero.
                (default: :obj:`(0, 0.1, 0.25, 0.5, 1, 2)`)
            max_users (int, optional): The highest number of validation users
                to use. If there are more, or the scores would take more
                memory, uses a fixed random sample.
                (default: :obj:`10000`)

        Shapes:
            - **edge_label_index:** :math:`(2, |\mathcal{E}_{\mathrm{val}}|)`
            - **exclude_edge_index:** :math:`(2, |\mathcal{E}|)`

        Raises:
            ValueError: If nothing is held out, the scorers do not fit each
                other, or an index or number is out of range.
        """
        first = _check_scorers(scorers)
        size, device = first.size, first.device
        k = check_k(k, size[1])
        choices = _check_grid(grid)
        check_int('max_users', max_users)
        held_out = _lists('edge_label_index', edge_label_index, size, device)
        users = held_out.rowptr.diff().nonzero().view(-1)
        if users.numel() == 0:
            raise ValueError(
                "'edge_label_index' needs at least one interaction (got none)"
            )
        fitting = max(1, MAX_SCORES // (len(scorers) * size[1]))
        users = _sample(users, min(max_users, fitting))
        label = held_out.take(users)
        exclude: CSR | None = None
        if exclude_edge_index is not None:
            exclude = _lists(
                'exclude_edge_index', exclude_edge_index, size, device
            ).take(users)
        blocks = users.split(HEIGHT)
        score = {
            name: torch.cat([standardize(scorer(block)) for block in blocks])
            for name, scorer in scorers.items()
        }
        order = torch.arange(users.numel(), device=device)

        def recall(weights: Mapping[str, float]) -> float:
            metric = LinkPredRecall(k).to(device)
            for index in order.split(HEIGHT):
                total = torch.zeros(index.numel(), size[1], device=device)
                for n, weight in weights.items():
                    if weight != 0:
                        total.add_(score[n][index], alpha=weight)
                excluded = None if exclude is None else exclude.take(index)
                top = topk_scores(total, k, excluded)
                # PyG's metrics take -1 for the last item of the previous user.
                top.masked_fill_(top < 0, size[1])
                block = label.take(index)
                metric.update(top, (block.row, block.col))
            return float(metric.compute())

        return cls(scorers, _ascend(recall, list(scorers), choices))

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
    # Differences are exactly zero in rows of one value, and their highest is
    # one in other rows, so that squares neither overflow nor vanish.
    out = score - score[:, :1]
    high = out.abs().amax(dim=1, keepdim=True)
    out /= high.masked_fill_(high == 0, 1.0)
    out -= out.mean(dim=1, keepdim=True)
    std = out.square().mean(dim=1, keepdim=True).sqrt_()
    return out.div_(std.masked_fill_(std == 0, 1.0))


def _ascend(
    recall: Callable[[Mapping[str, float]], float],
    names: list[str],
    choices: list[float],
) -> dict[str, float]:
    r"""Coordinate ascent from the best single scorer."""
    single = {name: recall({name: 1.0}) for name in names}
    order = sorted(names, key=lambda name: -single[name])
    weights = {name: float(name == order[0]) for name in names}
    best, changed = single[order[0]], True
    while changed:
        changed = False
        for name in order[1:]:
            tried = {
                w: best if w == weights[name] else recall({**weights, name: w})
                for w in choices
            }
            # The first of equal values is the smallest weight.
            chosen = max(choices, key=lambda w: tried[w])
            changed |= chosen != weights[name]
            weights[name], best = chosen, tried[chosen]
    return weights


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


def _check_grid(grid: Sequence[float]) -> list[float]:
    if not isinstance(grid, Sequence) or isinstance(grid, str):
        raise ValueError(
            f"'grid' needs to be a list of numbers (got {describe(grid)})"
        )
    return sorted(
        {0.0, *(check_number('grid', w, 0.0, MAX_WEIGHT) for w in grid)}
    )


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
