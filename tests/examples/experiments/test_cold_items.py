import pytest
import torch
from torch.testing import assert_close

from examples.experiments.cold_items import add_scores


@pytest.mark.parametrize('scale', [1.0, 100.0])
def test_concatenated_product_is_the_sum_of_standardized_scores(scale):
    models = [
        (scale * torch.randn(7, 4), torch.randn(9, 4)),
        (torch.randn(7, 3), torch.randn(9, 3)),
        (torch.zeros(7, 2), torch.zeros(9, 2)),  # Without opinion.
    ]
    user_emb, item_emb = add_scores(models)
    expected = torch.zeros(7, 9)
    for user, item in models[:2]:
        score = user @ item.t()
        expected += score / score.std(dim=1, correction=0).mean()
    assert_close(user_emb @ item_emb.t(), expected)
