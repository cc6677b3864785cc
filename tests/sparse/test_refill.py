import pytest
import torch
from torch.testing import assert_close

from diffmm_geo.ops import available_backends, propagate
from diffmm_geo.sparse import BipartiteAdj
from diffmm_geo.sparse.refill import refill

U, I, K = 7, 5, 3
EDGE = 'user', 'denoised_image', 'item'


def generated(seed, k=K):
    generator = torch.Generator().manual_seed(seed)
    item = torch.rand(U, I, generator=generator).argsort(dim=1)[:, :k]
    user = torch.arange(U).repeat_interleave(k)
    edge_index = torch.stack([user, item.flatten()])
    adj = BipartiteAdj.from_adj(edge_index, (U, I), prepare=True)
    return {EDGE: adj.dropout(0.5, generator)}


def tensors(adj_dict):
    matrices = adj_dict[EDGE].matrices()
    patterns = [p for x in matrices for p in (x.pattern, x.pattern_t)]
    return [
        *[x for p in patterns for x in (p.rowptr, p.col, p.row, p.narrow.col)],
        *[x for m in matrices for x in (m.value, m.value_t, m.perm)],
        adj_dict[EDGE].user_loop,
        adj_dict[EDGE].item_loop,
    ]


def run(adj_dict, backend):
    x = torch.arange(I * 2.0).view(I, 2).requires_grad_()
    out = torch.cat(propagate(adj_dict[EDGE], x.new_ones(U, 2), x, backend))
    (grad,) = torch.autograd.grad(out.square().sum(), x)
    return out.detach(), grad


@pytest.mark.parametrize(
    'backend', ['naive', 'torch_csr', 'embedding_bag', 'triton']
)
def test_equals_the_new_graphs_in_the_old_memory(backend):
    if backend not in available_backends():
        pytest.skip(f"'{backend}' is not installed")
    old, new = generated(0), generated(1)
    run(old, backend)  # Derives what the backend needs.
    places = [x.data_ptr() for x in tensors(old)]
    if not refill(old, new):  # Bags depend on the rows.
        assert backend == 'embedding_bag'
        return
    assert [x.data_ptr() for x in tensors(old)] == places
    for got, expected in zip(tensors(old), tensors(new)):
        assert_close(got, expected, rtol=0, atol=0)
    for got, expected in zip(run(old, backend), run(new, backend)):
        assert_close(got, expected, rtol=0, atol=0)


def test_nothing_changes_if_graphs_differ_in_size():
    old = generated(0)
    before = [x.clone() for x in tensors(old)]
    assert not refill(old, generated(1, k=2))
    assert not refill(old, {})
    for got, expected in zip(tensors(old), before):
        assert got.equal(expected)
    assert refill(old, old)
