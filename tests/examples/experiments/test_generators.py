import pytest
import torch

from diffmm_geo.tasks import DiffMMTask
from diffmm_geo.training import Trainer
from examples.experiments.generators import (
    GeneratorConfig,
    GeneratorTask,
    random_subsets,
)

GENERATED = [('user', f'denoised_{m}', 'item') for m in ('image', 'text')]


def make(data, generator='diffusion', **kwargs):
    settings = {'num_epochs': 2, 'batch_size': 8, 'k': 3, 'embedding_dim': 8}
    settings |= {'hidden_channels': 8, 'diffusion_batch_size': 8, **kwargs}
    config = GeneratorConfig(**settings, generator=generator)
    task = DiffMMTask if generator == 'diffusion' else GeneratorTask
    return Trainer(task(data, config))


@pytest.mark.parametrize('edges_per_user', [None, 2])
@pytest.mark.parametrize('generator', ['random', 'observed'])
def test_without_denoisers(planted, generator, edges_per_user):
    trainer, graphs = (
        make(planted(), generator, num_edges_per_user=edges_per_user),
        [],
    )
    diffusion = trainer.task.diffusion
    before = [p.clone() for p in diffusion.parameters()]
    history = trainer.fit(
        callback=lambda _: graphs.append(trainer.task.generated)
    )
    assert all(map(torch.equal, before, diffusion.parameters()))
    assert set(history[0]['loss']) == {'bpr', 'reg', 'contrastive'}
    assert history[0]['loss']['contrastive'] > 0
    assert trainer.task.num_epoch_steps == 12  # Interactions only.
    assert make(planted()).task.num_epoch_steps == 12 + 4  # Users.
    for edge_type in GENERATED:
        first, second = (graph[edge_type] for graph in graphs)
        if generator == 'observed':
            assert first.equal(trainer.task.edge_index)
            continue
        assert first.unique(dim=1).size() == first.size()
        assert first[0].bincount().tolist() == 32 * [edges_per_user or 5]
        assert not first.equal(second)
    image, text = (graphs[0][edge_type] for edge_type in GENERATED)
    assert image.equal(text) == (generator == 'observed')


@pytest.mark.parametrize('generator', ['random', 'diffusion'])
def test_more_edges_than_items(planted, generator):
    with pytest.raises(ValueError, match="'num_edges_per_user'"):
        make(planted(), generator, num_edges_per_user=25).fit()


def test_random_subsets():
    out = random_subsets(torch.arange(6000), 4, 2)
    assert (out[:, 0] != out[:, 1]).all()
    pair = out.sort(dim=1).values @ torch.tensor([4, 1])
    count = pair.bincount()
    # Six pairs, 1000 times each on average.
    assert count[count > 0].numel() == 6
    assert (count[count > 0] - 1000).abs().max() < 150
    assert (
        random_subsets(torch.arange(3), 5, 5)
        .sort()
        .values.equal(torch.arange(5).expand(3, 5))
    )
