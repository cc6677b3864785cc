import pytest
import torch

from benchmarks.graphs import power_law
from diffmm_geo.ops import available_backends, backend
from diffmm_geo.training import DiffMMConfig, DiffMMTrainer

from .cpu_random import CPURandom

EPOCHS = 3


@pytest.fixture
def data(is_large):
    from torch_geometric.data import HeteroData

    users, items, edges = (2003, 1009, 20_000) if is_large else (61, 43, 500)
    generator = torch.Generator().manual_seed(0)
    edge_index = power_law(users, items, edges)
    data = HeteroData()
    data['user'].num_nodes, data['item'].num_nodes = users, items
    for m, channels in (('image', 33), ('audio', 16)):
        x = torch.randn(items, channels, generator=generator)
        data['item'][f'x_{m}'] = x
    store = data['user', 'interacts', 'item']
    parts = torch.arange(edges) % 5
    store.edge_index = edge_index[:, parts > 1]
    store.val_edge_label_index = edge_index[:, parts == 0]
    store.test_edge_label_index = edge_index[:, parts == 1]
    return data


def make(data, device, num_epochs=EPOCHS, **settings):
    config = DiffMMConfig(
        num_epochs=num_epochs,
        patience=num_epochs,
        batch_size=256,
        embedding_dim=32,
        hidden_channels=64,
        dropout=0.0,  # Drawn inside of a kernel.
        num_edges_per_user=3,
        **settings,
    )
    return DiffMMTrainer(data, config, device=device)


def losses(trainer, **kwargs):
    return [record['loss'] for record in trainer.fit(**kwargs)]


def assert_same_losses(got, expected, rel):
    assert len(got) == len(expected) == EPOCHS
    for a, b in zip(got, expected):
        assert a == pytest.approx(b, rel=rel)


# The losses of a masked diffusion are the same in the dense and the Gram form.
@pytest.mark.parametrize(
    ('likelihood', 'form'),
    [
        ('multinomial', 'dense'),
        ('multinomial', 'sampled'),
        ('gaussian', 'dense'),
        ('gaussian', 'gram'),
        ('gaussian', 'sampled'),
    ],
)
@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_as_on_the_cpu(data, device, likelihood, form, precision):
    r"""Three epochs on the same random numbers."""
    settings = {
        'likelihood': likelihood,
        'msi_weight': 0.1 if likelihood == 'gaussian' else 0.0,
        'diffusion_form': form,
        'precision': precision,
    }
    with CPURandom():
        expected = losses(make(data, 'cpu', **settings))
        got = losses(make(data, device, **settings))
    rel = 1e-3 if precision == 'fp32' else 3e-2
    assert_same_losses(got, expected, rel)


def test_with_triton(data, device):
    if 'triton' not in available_backends(device):
        pytest.skip("'triton' is not available")
    with CPURandom():
        expected = losses(make(data, 'cpu'))
        with backend('triton'):
            got = losses(make(data, device))
    assert_same_losses(got, expected, 1e-3)


@pytest.mark.parametrize('num_candidates', [None, 200])
@pytest.mark.parametrize('name', [None, 'triton'])
def test_cuda_graphs(data, device, name, num_candidates):
    r"""Replayed steps compute what the steps themselves do."""
    if device.type != 'cuda':
        pytest.skip('CUDA graphs need a CUDA device')
    settings = {'num_candidates': num_candidates}
    with backend(name or 'torch_csr'):
        expected = losses(make(data, device, **settings))
        got = losses(make(data, device, cuda_graphs=True, **settings))
    # Candidates are drawn from another place of the stream.
    assert_same_losses(got, expected, 1e-3 if num_candidates is None else 0.1)


@pytest.mark.parametrize('cuda_graphs', [False, True])
def test_resumes(data, device, cuda_graphs, tmp_path):
    r"""A run that was stopped after an epoch ends like one that was not."""
    if cuda_graphs and device.type != 'cuda':
        pytest.skip('CUDA graphs need a CUDA device')
    settings = {'cuda_graphs': cuda_graphs}
    expected = losses(make(data, device, **settings))
    make(data, device, 1, **settings).fit(checkpoint_dir=tmp_path)
    resumed = make(data, device, **settings)
    got = losses(resumed, checkpoint_dir=tmp_path, resume=True)
    assert_same_losses(got, expected, 1e-6 if device.type == 'cpu' else 1e-3)
