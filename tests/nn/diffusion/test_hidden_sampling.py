r"""Against the plain form, :meth:`InteractionDiffusion.sample_edges`."""

import pytest
import torch

from diffmm_geo.nn import GaussianDiffusion
from diffmm_geo.nn.diffusion import hidden_sampling
from diffmm_geo.nn.diffusion.hidden_sampling import sample_edges_in_hidden_size
from diffmm_geo.sparse import CSR

U, I = 10, 8


def lists(edge_index, num_users=U):
    return CSR.from_edge_index(edge_index, (num_users, I), coalesce=True)


@pytest.mark.parametrize('num_steps', [1, 2, 5])
@pytest.mark.parametrize('hidden', [5, [4, 6]])
@pytest.mark.parametrize('block', [6, 20, 2**22])
@pytest.mark.parametrize('dtype', [torch.float, torch.double])
@pytest.mark.parametrize('candidates', [None, [6, 1, 4], [4, 1, 6]])
def test_agrees_with_plain(
    make, monkeypatch, edge_index, num_steps, hidden, block, dtype, candidates
):
    monkeypatch.setattr(hidden_sampling, 'BLOCK_SIZE', block)
    process = GaussianDiffusion(num_steps, 1.0, 1e-3, 0.5)
    diffusion = make(process, hidden_channels=hidden).to(dtype)
    if candidates is not None:
        candidates = torch.tensor(candidates)
    for k in (1, 3) if candidates is not None else (1, 3, I):
        expected = diffusion.sample_edges(
            edge_index, U, k, candidates=candidates
        )
        with monkeypatch.context() as patch:
            patch.setattr(diffusion, 'sample', None)
            out = sample_edges_in_hidden_size(
                diffusion, lists(edge_index), k, candidates
            )
        assert out.equal(expected)


def test_equal_users_are_computed_once(make, monkeypatch):
    edge_index = torch.tensor([[0, 0, 1, 2, 2, 4], [1, 3, 2, 3, 1, 2]])
    diffusion, batches = make(), []
    expected = diffusion.sample_edges(edge_index, U, 2)
    call = hidden_sampling.HiddenReverse.__call__
    monkeypatch.setattr(
        hidden_sampling.HiddenReverse,
        '__call__',
        lambda self, z: batches.append(z) or call(self, z),
    )
    out = sample_edges_in_hidden_size(diffusion, lists(edge_index), 2)
    assert out.equal(expected)
    assert sum(map(len, batches)) == 3  # {1, 3}, {2} and no item


def test_no_users_and_no_edges(make):
    diffusion, none = make(), torch.empty(2, 0, dtype=torch.long)
    out = sample_edges_in_hidden_size(diffusion, lists(none, 0))
    assert out.size() == (2, 0)
    out = sample_edges_in_hidden_size(diffusion, lists(none, 3), 2)
    assert out.size() == (2, 6)
    # All users have the same, empty row.
    assert out[1].view(3, 2).unique(dim=0).size(0) == 1
