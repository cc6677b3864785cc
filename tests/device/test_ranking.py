import copy

import pytest
import torch

from benchmarks.graphs import power_law
from diffmm_geo.evaluation import evaluate
from diffmm_geo.nn import ModalityDiffusion
from diffmm_geo.ops import topk_items
from diffmm_geo.ops.item_lists import ItemLists


@pytest.fixture
def sizes(is_large):
    return (5003, 20_011, 60_000) if is_large else (61, 307, 900)


@pytest.mark.parametrize('k', [1, 20])
@pytest.mark.parametrize('dtype', [torch.float, torch.half, torch.bfloat16])
def test_topk_items(k, dtype, device, sizes):
    r"""No item that is left out beats one that is chosen by more than
    rounding, and no excluded item is chosen.
    """
    users, items, edges = sizes
    edge_index = power_law(users, items, edges).to(device)
    query = torch.randn(users, 64, device=device).to(dtype)
    item = torch.randn(items, 64, device=device).to(dtype)
    exclude = ItemLists.from_edge_index(edge_index, users)
    chosen = topk_items(query, item, k, exclude=exclude)

    score = query.double() @ item.double().t()
    score[edge_index[0], edge_index[1]] = float('-inf')
    best = score.topk(k, dim=1).values
    got = score.gather(1, chosen)
    assert got.isfinite().all()
    bound = {torch.float: 1e-5, torch.half: 5e-3, torch.bfloat16: 4e-2}[dtype]
    assert float((best - got).abs().max()) <= bound * float(best.abs().max())


@pytest.mark.parametrize('k', [1, 5])
def test_generated_edges(k, device, sizes):
    r"""Sampling in hidden size finds the items that the dense process in
    float64 scores the highest.
    """
    users, items, edges = sizes
    edge_index = power_law(users, items, edges).to(device)
    diffusion = ModalityDiffusion(items, ['image'], hidden_channels=100)
    diffusion = diffusion.to(device)
    got = diffusion.sample_edges('image', edge_index, users, k)
    assert got[0].equal(torch.arange(users, device=device).repeat_interleave(k))

    rows = torch.arange(0, users, 1 + users // 100, device=device)
    lists = ItemLists.distinct_items(edge_index, users, items).take(rows)
    dense = copy.deepcopy(diffusion).double()
    weight = dense.denoisers['image'].item_weight
    score = dense.sample('image', lists.dense(items, weight))
    chosen = score.gather(1, got[1].view(users, k)[rows])
    best = score.topk(k, dim=1).values
    assert float((best - chosen).abs().max()) <= 1e-5 * float(best.abs().max())


def test_evaluate(device, sizes):
    r"""The metrics are those of the CPU."""
    users, items, edges = sizes
    edge_index = power_law(users, items, edges)
    held_out, train = edge_index[:, ::7], edge_index[:, 1::7]
    user, item = torch.randn(users, 64), torch.randn(items, 64)
    user = user.index_add(0, held_out[0], item[held_out[1]])
    expected = evaluate(user, item, held_out, train)
    got = evaluate(*(x.to(device) for x in (user, item, held_out, train)))
    assert got == pytest.approx(expected, rel=1e-3)
