import pytest
import torch
import torch_geometric.transforms as T

from diffmm_geo.datasets import split_interactions, write_mmrec
from diffmm_geo.training import DiffMMConfig, DiffMMTrainer
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


def test_trainer(planted, to_sparse):
    config = DiffMMConfig(num_epochs=1, k=3, embedding_dim=4, hidden_channels=4)
    sparse = to_sparse(planted())
    assert 'edge_index' not in sparse[OBSERVED]
    records = [
        DiffMMTrainer(data, config).fit()[0]
        for data in (sparse, by_item(planted()))
    ]
    for key in ('loss', 'val'):
        assert records[0][key] == records[1][key]


def test_files_and_splits(planted, to_sparse, tmp_path):
    graphs = {'sparse': to_sparse(planted()), 'plain': by_item(planted())}
    for name, data in graphs.items():
        write_mmrec(data, tmp_path / name, 'shop')
        store = data[OBSERVED]
        del store.val_edge_label_index, store.test_edge_label_index
        graphs[name] = split_interactions(data, val=0.3)[OBSERVED].to_dict()
    for path in (tmp_path / 'plain').iterdir():
        other = tmp_path / 'sparse' / path.name
        assert other.read_bytes() == path.read_bytes()
    assert graphs['sparse'].keys() == graphs['plain'].keys()
    for name, value in graphs['plain'].items():
        assert graphs['sparse'][name].equal(value)


def test_what_is_no_adj_t(planted, to_sparse):
    data = planted()
    data[OBSERVED].weight = torch.rand(data[OBSERVED].edge_index.size(1))
    weighted = to_sparse(data, attr='weight')
    with pytest.raises(ValueError, match="'adj_t' needs interactions without"):
        DiffMMTrainer(weighted)
    store = to_sparse(planted())[OBSERVED]
    with pytest.raises(ValueError, match="'adj_t' needs to be of size"):
        observed_edges(store, (24, 32))
    store.adj_t = store.adj_t.to_dense()
    with pytest.raises(ValueError, match="'adj_t' needs to be a SparseTensor"):
        observed_edges(store, (32, 24))
