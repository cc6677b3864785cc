import pytest
import torch
from torch.nn.functional import cosine_similarity
from torch.testing import assert_close

from diffmm_geo.nn import rescale_cold_items

EDGES = torch.tensor([[0, 0, 1], [1, 3, 3]])


def test_length_and_direction():
    item_emb = torch.randn(6, 4)
    out = rescale_cold_items(item_emb, EDGES, scale=2.5)
    warm, cold = [1, 3], [0, 2, 4, 5]
    assert out[warm].equal(item_emb[warm])
    length = 2.5 * item_emb[warm].norm(dim=1).mean()
    assert_close(out[cold].norm(dim=1), length.expand(4))
    assert_close(cosine_similarity(out, item_emb), torch.ones(6))


def test_nothing_to_scale():
    item_emb = torch.randn(4, 3)
    item_emb[2] = 0.0
    out = rescale_cold_items(item_emb, EDGES)
    assert out.isfinite().all() and (out[2] == 0).all()
    assert rescale_cold_items(item_emb, EDGES[:, :0]).equal(item_emb)
    every = torch.arange(4).expand(2, -1)
    assert rescale_cold_items(item_emb, every).equal(item_emb)


def test_wrong_arguments():
    good = {'item_emb': torch.ones(4, 3), 'edge_index': EDGES, 'scale': 1.0}
    for name, value in (
        ('item_emb', torch.ones(4)),
        ('item_emb', torch.full((4, 3), float('inf'))),
        ('edge_index', EDGES + 1),
        ('scale', -1.0),
        ('scale', '1'),
    ):
        with pytest.raises(ValueError, match=f"'{name}'"):
            rescale_cold_items(**{**good, name: value})
