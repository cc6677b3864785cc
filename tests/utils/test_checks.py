import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from diffmm_geo.datasets import load_folder, write_mmrec
from diffmm_geo.evaluation import evaluate
from diffmm_geo.nn import (
    Denoiser,
    DiffMM,
    ModalityDiffusion,
    MultiModalLightGCNConv,
)
from diffmm_geo.nn.conv import BipartiteLGConv
from diffmm_geo.recommender import Recommender
from diffmm_geo.training import DiffMMConfig, DiffMMTrainer
from diffmm_geo.transforms import ModalityAwareGraphDiffusion
from diffmm_geo.utils.checks import as_int, check_int, check_steps


class Index:
    def __index__(self):
        return 3


INTEGERS = (np.int64(3), np.uint8(3), torch.tensor(3), Index())
OTHERS = (True, np.True_, torch.tensor(True), 3.0, np.float32(3), '3', None)
OTHERS += (torch.tensor(3.0), torch.empty(2, 3, device='meta'))


def test_integers():
    for value in INTEGERS:
        for out in (as_int(value), check_int('n', value)):
            assert out == 3 and type(out) is int
    for value in OTHERS:
        assert as_int(value) is None
        with pytest.raises(ValueError, match="'n' needs to be an integer"):
            check_int('n', value)
    for t in (2, np.int64(2), torch.tensor(2), torch.tensor([2])):
        assert check_steps(t, 5, 3).tolist() == [2]


@pytest.mark.parametrize('integer', [np.int64, torch.tensor])
def test_a_graph_and_settings_of_other_integers(planted, integer, tmp_path):
    r"""Such as :obj:`num_nodes = edge_index.max() + 1`."""
    data, plain = planted(modalities=['image']), planted(modalities=['image'])
    for node_type in ('user', 'item'):
        data[node_type].num_nodes = integer(plain[node_type].num_nodes)
    names = ('num_epochs', 'batch_size', 'k', 'embedding_dim', 'num_steps')
    sizes = dict(zip(names, (1, 64, 3, 4, 2)))
    rest = {'hidden_channels': [6], 'time_channels': 4, 'num_candidates': 8}
    config = DiffMMConfig(**sizes, **rest)
    other = DiffMMConfig(
        **{name: integer(value) for name, value in sizes.items()},
        hidden_channels=[integer(6)],
        time_channels=integer(4),
        num_candidates=integer(8),
        lr=np.float32(0.25),
    )
    assert replace(other, lr=config.lr) == config
    assert json.loads(json.dumps(asdict(other))) == {
        **json.loads(json.dumps(asdict(config))),
        'lr': 0.25,
    }

    history = DiffMMTrainer(data, replace(other, lr=1e-3)).fit()
    expected = DiffMMTrainer(plain, config).fit()
    assert history[-1]['val'] == expected[-1]['val']
    assert history[-1]['loss'] == expected[-1]['loss']

    diffusion = ModalityDiffusion(
        data['item'].num_nodes, ['image'], hidden_channels=integer(6)
    )
    transform = ModalityAwareGraphDiffusion(
        diffusion, num_edges_per_user=integer(2), sampling_steps=integer(1)
    )
    num_users = plain['user'].num_nodes
    generated = transform(data)['user', 'denoised_image', 'item'].edge_index
    assert generated.size() == (2, 2 * num_users)
    for graph in (plain, data):
        write_mmrec(graph, tmp_path / str(graph is data), 'shop')
    files = [tmp_path / f'{name}/shop.inter' for name in (False, True)]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize('integer', [np.int64, torch.tensor])
def test_models_and_rankings_of_other_integers(integer, tmp_path):
    model = DiffMM(integer(5), integer(4), {'a': integer(3)}, integer(2))
    model.save_pretrained(tmp_path)
    assert DiffMM.from_pretrained(tmp_path).config == model.config
    assert Denoiser(integer(4), integer(6)).hidden_channels == [6]
    user, item = torch.randn(3, 2), torch.randn(5, 2)
    edge_index = torch.tensor([[0, 1], [2, 3]])
    two = integer(2)
    expected = evaluate(user, item, edge_index, k=2)
    assert evaluate(user, item, edge_index, k=two) == expected
    assert Recommender(user, item).recommend(k=two).size() == (3, 2)
    np.save(tmp_path / 'train.npy', edge_index.numpy())
    data = load_folder(tmp_path, None, integer(3), integer(5))
    assert type(data['item'].num_nodes) is int
    with pytest.raises(ValueError, match="'num_items' needs to be an integer"):
        load_folder(tmp_path, num_items=5.0)


@pytest.mark.parametrize('strict', [False, True])
def test_sizes_stay_dynamic_in_an_exported_graph(strict):
    class Layers(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bipartite = BipartiteLGConv()
            self.modal = MultiModalLightGCNConv(['a'])

        def forward(self, user, item, x, edge_index):
            user, item = self.bipartite((user, item), edge_index)
            return self.modal(
                {'user': user, 'item': item},
                {('user', 'interacts', 'item'): edge_index},
                {'a': x},
            )

    def inputs(num_users, num_items, num_edges):
        return (
            torch.randn(num_users, 4),
            torch.randn(num_items, 4),
            torch.randn(num_items, 4),
            torch.stack(
                [
                    torch.randint(num_users, (num_edges,)),
                    torch.randint(num_items, (num_edges,)),
                ]
            ),
        )

    users, items, edges = (torch.export.Dim(n) for n in ('u', 'i', 'e'))
    program = torch.export.export(
        Layers(),
        inputs(5, 4, 7),
        dynamic_shapes=({0: users}, {0: items}, {0: items}, {1: edges}),
        strict=strict,
    )
    args = inputs(11, 13, 29)
    for key, value in Layers()(*args).items():
        torch.testing.assert_close(program.module()(*args)[key], value)
