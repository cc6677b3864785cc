import pytest
import torch
from torch.testing import assert_close
from torch_geometric.data import HeteroData
from torch_geometric.transforms import Compose

from diffmm_geo.transforms import ItemKNNGraph


def make(node_type='item', **features):
    data = HeteroData()
    for m, x in features.items():
        data[node_type][f'x_{m}'] = x
        data[node_type].num_nodes = x.size(0)
    return data


def nearest(x, **kwargs):
    data = ItemKNNGraph(**kwargs)(make(image=x))
    return data['item', 'similar_image', 'item'].edge_index


def pairs(edge_index):
    return set(map(tuple, edge_index.t().tolist()))


def test_nearest_in_cosine():
    x = torch.randn(50, 6)
    z = ((x - x.mean(0)) / x.std(0)).double()
    cosine = torch.nn.functional.cosine_similarity(z[:, None], z[None], dim=-1)
    expected = cosine.fill_diagonal_(-2).topk(4, dim=1).indices
    store = ItemKNNGraph(k=4)(make(image=x))['item', 'similar_image', 'item']
    row, col = store.edge_index
    assert col.equal(torch.arange(50).repeat_interleave(4))
    assert row.view(50, 4).equal(expected)  # The nearest first.
    assert_close(store.edge_weight, cosine[col, row].float())
    # Of few items, all others are the nearest.
    assert nearest(x[:3], k=10).size() == (2, 6)
    assert nearest(x[:1], k=10).size() == (2, 0)


@pytest.mark.parametrize('dtype', [torch.float, torch.double, torch.half])
def test_scale_and_shift_do_not_matter(dtype):
    x = torch.randint(-8, 8, (30, 5)).to(dtype)
    x[:, 0] += 1.0  # No row of zeros.
    x[(x == 0).all(dim=1)] = 1.0
    expected = pairs(nearest(x, k=3))
    scale = torch.tensor([8.0, 8.0, 0.5, 2.0, 1.0], dtype=dtype)
    assert pairs(nearest(x * scale, k=3)) == expected
    assert pairs(nearest(x * scale + 100.0, k=3)) == expected


@pytest.mark.parametrize('value', [0.0, 0.1, 1500.0])
def test_constant_features_connect_nothing(value):
    assert nearest(torch.full((9, 4), value)).size() == (2, 0)
    x = torch.randn(9, 4)
    with_constant = torch.cat([x, torch.full((9, 2), value)], dim=1)
    assert pairs(nearest(with_constant, k=2)) == pairs(nearest(x, k=2))


def test_items_without_features():
    x = torch.randn(12, 4)
    there = torch.tensor([0, 1, 3, 4, 6, 7, 8, 11])
    missing = torch.ones(12, dtype=torch.bool)
    missing[there] = False
    expected = pairs(there[nearest(x[there], k=3)])
    x[missing] = 0.0
    assert pairs(nearest(x, k=3)) == expected


def test_in_a_pipeline():
    data = make('product', image=torch.randn(9, 4), text=torch.randn(9, 5))
    transform = ItemKNNGraph(2, ['text'], item_type='product')
    assert str(transform) == (
        "ItemKNNGraph(k=2, modalities=['text'], item_type='product')"
    )
    out = Compose([transform])(data)
    assert out.edge_types == [('product', 'similar_text', 'product')]
    assert data.edge_types == []
    edge_types = ItemKNNGraph(k=2, item_type='product')(data).edge_types
    assert [t[1] for t in edge_types] == ['similar_image', 'similar_text']


def test_bad_data():
    with pytest.raises(ValueError, match="'data' needs nodes of type"):
        ItemKNNGraph(item_type='product')(make(image=torch.randn(4, 2)))
    with pytest.raises(ValueError, match="'x_image'"):
        nearest(torch.full((4, 2), float('nan')))
