import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from diffmm_geo.datasets import load_folder
from diffmm_geo.evaluation import evaluate
from diffmm_geo.nn import DiffMM, MultiModalLightGCNConv
from diffmm_geo.nn.conv import BipartiteLGConv
from diffmm_geo.training import DiffMMConfig, DiffMMTrainer
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
def test_other_integers_of_graphs_settings_and_models(
    planted, integer, tmp_path
):
    r"""Such as :obj:`num_nodes = edge_index.max() + 1`."""
    data, plain = planted(modalities=['image']), planted(modalities=['image'])
    for node_type in ('user', 'item'):
        data[node_type].num_nodes = integer(plain[node_type].num_nodes)
    names = ('num_epochs', 'batch_size', 'k', 'embedding_dim', 'num_steps')
    sizes = {**dict(zip(names, (1, 64, 3, 4, 2))), 'num_candidates': 8}
    config = DiffMMConfig(**sizes, hidden_channels=[6])
    other = DiffMMConfig(
        **{name: integer(value) for name, value in sizes.items()},
        hidden_channels=[integer(6)],
        lr=np.float32(config.lr),
    )
    other = replace(other, lr=config.lr)
    assert json.dumps(asdict(other)) == json.dumps(asdict(config))
    history = DiffMMTrainer(data, other).fit()
    expected = DiffMMTrainer(plain, config).fit()
    assert history[-1]['val'] == expected[-1]['val']
    assert history[-1]['loss'] == expected[-1]['loss']

    model = DiffMM(integer(5), integer(4), {'a': integer(3)}, integer(2))
    model.save_pretrained(tmp_path)
    assert DiffMM.from_pretrained(tmp_path).config == model.config
    emb, edges = torch.randn(2, 5, 2), torch.tensor([[0, 1], [2, 3]])
    expected = evaluate(*emb, edges, k=2)
    assert evaluate(*emb, edges, k=integer(2)) == expected
    np.save(tmp_path / 'train.npy', edges.numpy())
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
        sizes = torch.tensor([[num_users], [num_items]])
        edges = (torch.rand(2, num_edges) * sizes).long()
        rows = (num_users, num_items, num_items)
        return (*(torch.randn(n, 4) for n in rows), edges)

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
