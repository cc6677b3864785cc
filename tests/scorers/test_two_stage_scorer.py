import pytest
import torch

from diffmm_geo.scorers import Scorer, TwoStageScorer

U, I = 5, 8


class Given(Scorer):
    def __init__(self, table):
        super().__init__(*table.size(), table.device)
        self.table = table

    def score(self, user_index):
        return self.table[user_index]


def reference(first, second, observed, k):
    r"""The ranking of each user, without observed items."""
    out = []
    for user in range(U):
        left = [i for i in range(I) if (user, i) not in observed]
        left.sort(key=lambda i: -float(first[user, i]))
        best = sorted(left[:k], key=lambda i: -float(second[user, i]))
        out.append((best + left[k:] + [-1] * I)[:I])
    return torch.tensor(out)


@pytest.mark.parametrize('k', [1, 3, 8, 100])
@pytest.mark.parametrize('scale', [1.0, 1e6])
def test_candidates_come_first_in_the_order_of_the_ranker(k, scale):
    first, second = torch.randn(2, U, I)
    edge_index = torch.tensor([[0, 0, 1, 3], [1, 2, 7, 0]])
    # A user without items left.
    rest = torch.stack([torch.full((I,), 4), torch.arange(I)])
    edge_index = torch.cat([edge_index, rest], dim=1)
    scorer = TwoStageScorer(
        Given(scale * first), Given(scale * second), edge_index, k
    )
    observed = set(zip(*edge_index.tolist()))
    expected = reference(first, second, observed, k)
    assert scorer.recommend(None, I, edge_index).equal(expected)
    assert scorer(torch.arange(U)).isfinite().all()


def test_wrong_arguments():
    good = {
        'retriever': Given(torch.zeros(U, I)),
        'ranker': Given(torch.zeros(U, I)),
        'edge_index': torch.tensor([[0], [1]]),
        'num_candidates': 3,
    }
    for name, value in (
        ('retriever', torch.zeros(U, I)),
        ('ranker', None),
        ('ranker', Given(torch.zeros(U, I + 1))),
        ('edge_index', torch.tensor([[U], [0]])),
        ('num_candidates', 0),
    ):
        with pytest.raises(ValueError, match=f"'{name}'"):
            TwoStageScorer(**{**good, name: value})
