import pytest
import torch

from diffmm_geo.tasks.generators import random_subsets
from diffmm_geo.training import DiffMMConfig, DiffMMTrainer
from tests.tasks.task_protocol import OBSERVED

GENERATED = [('user', f'denoised_{m}', 'item') for m in ('image', 'text')]


def make(data, **kwargs):
    settings = {'num_epochs': 2, 'batch_size': 8, 'k': 3, 'embedding_dim': 8}
    settings |= {'hidden_channels': 8, 'diffusion_batch_size': 8, **kwargs}
    return DiffMMTrainer(data, DiffMMConfig(**settings))


def test_random(planted):
    trainer = make(planted(), generator='random', num_edges_per_user=2)
    graphs = []
    record = trainer.fit(
        callback=lambda _: graphs.append(trainer.edge_index_dict)
    )[0]
    assert set(record['loss']) == {'bpr', 'reg', 'contrastive'}
    for edge_type in GENERATED:
        first, second = (graph[edge_type] for graph in graphs)
        assert first.size() == (2, 64) and first.unique(dim=1).size(1) == 64
        assert first[0].bincount().tolist() == 32 * [2]
        assert not first.equal(second)
    assert not graphs[0][GENERATED[0]].equal(graphs[0][GENERATED[1]])


def test_observed(planted):
    trainer = make(planted(), generator='observed')
    record = trainer.fit()[0]
    for edge_type in GENERATED:
        assert trainer.edge_index_dict[edge_type].equal(trainer.edge_index)
    assert record['loss']['contrastive'] > 0


@pytest.mark.parametrize('generator', ['random', 'observed'])
def test_steps_and_denoisers(planted, generator):
    trainer = make(planted(), num_epochs=1, generator=generator)
    before = [p.clone() for p in trainer.diffusion.parameters()]
    trainer.fit()
    for old, new in zip(before, trainer.diffusion.parameters()):
        assert old.equal(new)
    assert trainer.task.num_epoch_steps == 12  # Interactions only.
    assert make(planted()).task.num_epoch_steps == 12 + 4  # Users.


def test_edges_by_default(planted):
    trainer = make(planted(), num_epochs=1, num_edges_per_user=None)
    trainer.fit()
    for edge_type in GENERATED:
        users = trainer.edge_index_dict[edge_type][0]
        assert users.bincount().tolist() == 32 * [5]


@pytest.mark.parametrize('generator', ['random', 'diffusion'])
def test_more_edges_than_items(planted, generator):
    with pytest.raises(ValueError, match="'num_edges_per_user'"):
        make(planted(), generator=generator, num_edges_per_user=25).fit()


def test_unknown():
    with pytest.raises(ValueError, match="'generator'"):
        DiffMMConfig(generator='variational')


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


def test_observed_edge_type(planted):
    data = planted(edge_type=('customer', 'buys', 'product'))
    trainer = DiffMMTrainer(
        data,
        DiffMMConfig(num_epochs=1, k=3, generator='random'),
        edge_type=('customer', 'buys', 'product'),
    )
    trainer.fit()
    assert ('customer', 'denoised_image', 'product') in trainer.edge_index_dict
    assert OBSERVED not in trainer.edge_index_dict
