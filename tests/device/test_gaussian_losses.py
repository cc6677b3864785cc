r"""The losses of the paper's diffusion. Each form draws its own noise, so that
means over many calls are compared.
"""

import copy

import pytest
import torch

from benchmarks.graphs import power_law
from diffmm_geo.nn import GaussianDiffusion, ModalityDiffusion
from diffmm_geo.sparse import CSR

CALLS = 64
HIDDEN, EMBEDDING = 16, 8


@pytest.fixture
def problem(is_large):
    r"""A diffusion far from its initialization, in float64 on the CPU, with
    the arguments of its loss. The noise has a large part in it.
    """
    users, items, edges = (503, 1009, 9000) if is_large else (61, 211, 900)
    diffusion = ModalityDiffusion(
        items,
        ['image'],
        GaussianDiffusion(4, 1.0, 0.2, 0.5),
        hidden_channels=HIDDEN,
        dropout=0.0,
    ).double()
    for parameter in diffusion.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    # Correlated channels: their covariance is far from diagonal.
    weight = diffusion.denoisers['image'].item_weight.data
    weight += 0.1 * torch.randn(items, 1) * torch.randn(HIDDEN)
    lists = CSR.from_edge_index(power_law(users, items, edges), (users, items))
    emb = [torch.randn(items, EMBEDDING).double() for _ in range(2)]
    return diffusion, lists, *emb, torch.randint(4, (users,))


def losses_and_gradients(diffusion, lists, item_emb, modality_emb, t, form):
    r"""The means over calls of both terms, and of the gradients of their sum,
    each with its standard error.
    """
    parameters = list(diffusion.parameters())
    samples = []
    for _ in range(CALLS):
        terms = diffusion.batch_loss(
            'image', lists, item_emb, modality_emb, 0.1, form, t
        )
        means = [term.mean() for term in terms]
        grads = torch.autograd.grad(sum(means), parameters)
        parts = [*means, *grads]
        samples.append([x.detach().double().cpu().flatten() for x in parts])
    stacked = [torch.stack(parts) for parts in zip(*samples, strict=True)]
    return [(x.mean(0), x.std(0) / CALLS**0.5) for x in stacked]


@pytest.mark.parametrize('dtype', [torch.float, torch.bfloat16])
@pytest.mark.parametrize('form', ['dense', 'gram', 'sampled'])
def test_as_the_dense_form_in_float64(form, dtype, device, problem):
    diffusion, lists, *emb, t = problem
    expected = losses_and_gradients(*problem, 'dense')
    diffusion = copy.deepcopy(diffusion).float().to(device)
    inputs = [x.to(device, torch.float) for x in emb]
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float):
        got = losses_and_gradients(
            diffusion, lists.to(device), *inputs, t.to(device), form
        )
    rounding = 1e-3 if dtype == torch.float else 3e-2
    for (mean, error), (exact, exact_error) in zip(got, expected, strict=True):
        difference = float((mean - exact).norm())
        # The norm of the difference of two means, if they estimate the same.
        noise = float((error.square() + exact_error.square()).sum().sqrt())
        # Norms of vectors vary less than single numbers.
        bound = (4 if exact.numel() == 1 else 2) * noise
        assert difference <= bound + rounding * float(exact.norm())
