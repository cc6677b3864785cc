r"""Against a loop over the scores of each user."""

import pytest
import torch

from diffmm_geo.nn import (
    GaussianDiffusion,
    InteractionDiffusion,
    MaskedDiffusion,
    ModalityDiffusion,
)
from diffmm_geo.nn.diffusion import edge_sampling
from diffmm_geo.sparse import CSR

U, I = 10, 8
PROCESSES = {
    'masked': MaskedDiffusion(3),
    'masked, of features': MaskedDiffusion(3),
    '2 steps, of features': GaussianDiffusion(2, 1.0, 1e-3, 0.5),
    **{f'{t} steps': GaussianDiffusion(t, 1.0, 1e-3, 0.5) for t in (1, 2, 5)},
}


def make(process='2 steps', hidden_channels=5, **kwargs):
    kwargs['hidden_channels'] = hidden_channels
    if 'features' in process:
        kwargs['feature_channels'] = 3
    diffusion = ModalityDiffusion(I, ['image'], PROCESSES[process], **kwargs)
    if 'features' in process:
        observed = torch.arange(I) < I - 1
        diffusion.set_features({'image': torch.randn(I, 3)}, observed)
    for parameter in diffusion.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return diffusion


@pytest.mark.parametrize('process', PROCESSES)
@pytest.mark.parametrize('hidden', [5, [4, 6]])
@pytest.mark.parametrize('block', [1, 20, 2**22])
@pytest.mark.parametrize('normalize', [False, True])
@pytest.mark.parametrize('exclude', [False, True])
@pytest.mark.parametrize('candidates', [None, [6, 1, 4], [4, 1, 6]])
def test_edges_are_the_top_items(
    monkeypatch, x_start, process, hidden, block, normalize, exclude, candidates
):
    monkeypatch.setattr(edge_sampling, 'BLOCK_SIZE', block)
    diffusion = make(process, hidden, normalize=normalize)
    x_start[0] = 1  # Nothing is left for this user.
    items = range(I) if candidates is None else candidates
    if candidates is not None:
        candidates = torch.tensor(candidates)
    options = {'candidates': candidates, 'exclude_observed': exclude}
    # The order of interactions and their repetition do not matter.
    edges = x_start.nonzero().t()
    lists = CSR.from_edge_index(edges, (U, I))
    edges = torch.cat([edges.flip(1), edges[:, ::2]], dim=1)
    for dtype in (torch.float, torch.double):
        score = diffusion.to(dtype).sample('image', x_start.to(dtype))
        for k in (1, 3, len(items)):
            expected = []
            for u in range(U):
                left = [i for i in items if not (exclude and x_start[u, i])]
                left.sort(key=lambda i: -float(score[u, i]))
                expected += [[u, i] for i in left[:k]]
            for args in ((edges, U, k), (lists, None, k)):
                out = diffusion.sample_edges('image', *args, **options)
                assert out.t().tolist() == expected


# Noise and row normalization need rows of all items.
@pytest.mark.parametrize(
    ('options', 'is_plain'),
    [((), False), ((2, False), True), ((0, True), True), ('normalize', True)],
)
def test_noise(monkeypatch, edge_index, x_start, options, is_plain):
    diffusion = make(normalize=options == 'normalize')
    options = () if options == 'normalize' else options
    torch.manual_seed(1)
    score = diffusion.sample('image', x_start, *options)
    sample, seen = InteractionDiffusion.sample, []
    monkeypatch.setattr(
        InteractionDiffusion,
        'sample',
        lambda *args: seen.append(args) or sample(*args),
    )
    torch.manual_seed(1)
    out = diffusion.sample_edges('image', edge_index, U, 2, *options)
    assert out[1].view(U, 2).equal(score.topk(2).indices)
    assert bool(seen) == is_plain


def test_equal_users_are_computed_once(monkeypatch):
    edge_index = torch.tensor([[0, 0, 1, 2, 2, 4], [1, 3, 2, 3, 1, 2]])
    batches, call = [], edge_sampling.HiddenReverse.__call__
    monkeypatch.setattr(
        edge_sampling.HiddenReverse,
        '__call__',
        lambda self, z: batches.append(z) or call(self, z),
    )
    make().sample_edges('image', edge_index, U, 2)
    assert sum(map(len, batches)) == 3  # {1, 3}, {2} and no item


def test_no_users_and_no_edges():
    diffusion, none = make(), torch.empty(2, 0, dtype=torch.long)
    assert diffusion.sample_edges('image', none, 0).size() == (2, 0)
    out = diffusion.sample_edges('image', none, 3, 2)
    # All users have the same, empty row.
    assert out[1].view(3, 2).unique(dim=0).size(0) == 1
