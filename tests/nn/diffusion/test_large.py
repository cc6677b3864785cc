r"""No tensor has a batch size times the number of items, where avoidable."""

import sys

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from diffmm_geo.nn import ModalityDiffusion
from diffmm_geo.sparse import CSR

USERS, ITEMS, HIDDEN = 256, 4000, 8


class NoLargeTensor(TorchDispatchMode):
    r"""Refuses outputs of so many elements or more."""

    def __init__(self, limit):
        super().__init__()
        self.limit, self.largest = limit, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if isinstance(x, torch.Tensor):
                # An expanded tensor counts as what it stores.
                size = x.untyped_storage().nbytes() // x.element_size()
                size = min(size, x.numel())
                self.largest = max(self.largest, size)
                if size >= self.limit:
                    raise AssertionError(f'{func}: {list(x.size())}')
        return out


@pytest.fixture
def case():
    torch.manual_seed(0)
    diffusion = ModalityDiffusion.paper(
        ITEMS, ['image'], hidden_channels=HIDDEN
    )
    edge_index = torch.stack(
        [torch.arange(USERS).repeat(3), torch.randint(ITEMS, (3 * USERS,))]
    )
    lists = CSR.from_edge_index(edge_index, (USERS, ITEMS), coalesce=True)
    return diffusion, lists, edge_index


def train(diffusion, lists, form):
    optimizer = torch.optim.Adam(diffusion.parameters())
    emb = torch.randn(ITEMS, 16), torch.randn(ITEMS, 16)
    elbo, msi = diffusion.batch_loss('image', lists, *emb, 0.1, form)
    (elbo.mean() + 0.1 * msi.mean()).backward()
    optimizer.step()


@pytest.mark.parametrize('form', ['gram', 'auto'])
def test_training_holds_no_batch_by_items(case, form):
    diffusion, lists, _ = case
    with NoLargeTensor(USERS * ITEMS) as guard:
        train(diffusion, lists, form)
    # The largest is a table of items or a batch of hidden layers.
    assert guard.largest <= ITEMS * 16


def test_guard_sees_the_dense_form(case):
    diffusion, lists, _ = case
    with pytest.raises(AssertionError), NoLargeTensor(USERS * ITEMS):
        train(diffusion, lists, 'dense')


@pytest.mark.parametrize('k', [1, 3])
def test_generation_holds_a_block(case, monkeypatch, k):
    diffusion, lists, edge_index = case
    expected = diffusion.sample_edges('image', edge_index, USERS, k)
    module = sys.modules['diffmm_geo.ops.ranking.topk_items']
    monkeypatch.setattr(module, 'BLOCK_SIZE', 2**13)
    with NoLargeTensor(USERS * ITEMS) as guard:
        out = diffusion.sample_edges('image', lists, None, k)
    assert guard.largest <= ITEMS * 16
    assert out.equal(expected)
