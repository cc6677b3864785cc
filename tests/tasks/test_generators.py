import pytest
import torch

from diffmm_geo.nn import ModalityDiffusion
from diffmm_geo.sparse import CSR
from diffmm_geo.tasks.generators import diffusion_edges, random_subsets
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


class OneOf:
    r"""One rank of several, which sums with itself."""

    def __init__(self, rank, size):
        self.rank, self.size = rank, size

    def share(self, number):
        step = -(-number // self.size)
        return slice(self.rank * step, min(number, (self.rank + 1) * step))

    def sum_(self, x):
        return x


@pytest.mark.parametrize('exclude_observed', [False, True])
def test_ranks_share_users(random_edges, exclude_observed):
    edge_index = random_edges(11, 4, 26)
    lists = CSR.from_edge_index(edge_index, (11, 4), coalesce=True)
    diffusion = ModalityDiffusion(4, ['image'], hidden_channels=5)
    args = diffusion, lists, 3, None
    expected = diffusion_edges(*args, None, exclude_observed)['image']
    assert (expected.size(1) < 33) == exclude_observed
    parts = [
        diffusion_edges(*args, OneOf(rank, 3), exclude_observed)['image']
        for rank in range(3)
    ]
    assert torch.cat(parts, dim=1).equal(expected)
