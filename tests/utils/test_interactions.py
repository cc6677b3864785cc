import pytest
import torch
import torch_geometric.transforms as T

from diffmm_geo.datasets import (
    split_interactions,
    write_mmrec,
)
from diffmm_geo.training import (
    DiffMMConfig,
    DiffMMTrainer,
    LightGCNConfig,
    LightGCNTrainer,
)
from diffmm_geo.utils.interactions import observed_edges

OBSERVED = ('user', 'interacts', 'item')


@pytest.fixture(params=[None, torch.sparse_csr, torch.sparse_coo])
def to_sparse(request):
    if request.param is None:
        pytest.importorskip('torch_sparse')
    return lambda data, **kwargs: T.ToSparseTensor(
        layout=request.param, **kwargs
    )(data)


def by_item(data):
    r"""As :class:`ToSparseTensor` orders edges."""
    store = data[OBSERVED]
    user, item = store.edge_index
    store.edge_index = store.edge_index[:, (item * 1000 + user).argsort()]
    return data


@pytest.mark.parametrize('trainer', [DiffMMTrainer, LightGCNTrainer])
def test_trainers(planted, to_sparse, trainer):
    small = {'num_epochs': 1, 'k': 3, 'embedding_dim': 4}
    config = LightGCNConfig(**small)
    if trainer is DiffMMTrainer:
        config = DiffMMConfig(**small, hidden_channels=4)
    data = to_sparse(planted())
    assert 'edge_index' not in data[OBSERVED]
    expected = trainer(by_item(planted()), config).fit()
    history = trainer(data, config).fit()
    assert history[0]['loss'] == expected[0]['loss']
    assert history[0]['val'] == expected[0]['val']


def test_writers(planted, to_sparse, tmp_path):
    for name, graph in (
        ('sparse', to_sparse(planted())),
        ('plain', by_item(planted())),
    ):
        write_mmrec(graph, tmp_path / name, 'shop')
    for path in (tmp_path / 'plain').iterdir():
        assert (tmp_path / 'sparse' / path.name).read_bytes() == (
            path.read_bytes()
        )


def test_splits(planted, to_sparse):
    graphs = []
    for graph in (by_item(planted()), to_sparse(planted())):
        store = graph[OBSERVED]
        del store.val_edge_label_index, store.test_edge_label_index
        graphs.append(split_interactions(graph, val=0.3)[OBSERVED].to_dict())
    assert graphs[0].keys() == graphs[1].keys()
    for name, value in graphs[0].items():
        assert torch.equal(graphs[1][name], value)


def test_what_is_no_adj_t(planted, to_sparse):
    data = planted()
    data[OBSERVED].weight = torch.rand(data[OBSERVED].edge_index.size(1))
    weighted = to_sparse(data, attr='weight')
    with pytest.raises(ValueError, match="'adj_t' needs interactions without"):
        LightGCNTrainer(weighted)
    store = to_sparse(planted())[OBSERVED]
    with pytest.raises(ValueError, match="'adj_t' needs to be of size"):
        observed_edges(store, (24, 32))
    store.adj_t = store.adj_t.to_dense()
    with pytest.raises(ValueError, match="'adj_t' needs to be a SparseTensor"):
        observed_edges(store, (32, 24))
