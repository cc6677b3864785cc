import pytest
import torch

from diffmm_geo.training import MFConfig, MFTrainer
from tests.tasks.task_protocol import OBSERVED
from tests.wrong_values import wrong_values


def make(data, edge_type=OBSERVED):
    return MFTrainer(data, MFConfig(k=3), edge_type)


# Of the last, nobody has a negative item.
@wrong_values(
    edge_index=[
        *[torch.tensor(e) for e in ([[32], [0]], [[0], [24]])],
        *[torch.empty(2, 0).long(), None],
        torch.cartesian_prod(*map(torch.arange, (32, 24))).t(),
    ],
    val_edge_label_index=[torch.tensor([[-1], [0]]), None],
    test_edge_label_index=[torch.zeros(2, 3), torch.empty(2, 0).long()],
)
def test_bad_edges(planted, name, value):
    data = planted()
    del data[OBSERVED][name]
    if value is not None:
        data[OBSERVED][name] = value
    with pytest.raises(ValueError, match=f"'{name}'"):
        make(data)


def test_missing_edge_type(planted):
    with pytest.raises(ValueError, match="'data' needs edges of type"):
        make(planted(), edge_type=('user', 'likes', 'item'))


def test_missing_nodes(planted):
    data = planted()
    data['user'].num_nodes = 0
    with pytest.raises(ValueError, match="'data' needs nodes of type"):
        make(data)


@pytest.mark.parametrize(
    ('device', 'expected'),
    [('cuda:99', 'an available device'), ('gpu', 'a device')],
)
def test_unavailable_device(planted, device, expected):
    with pytest.raises(ValueError, match=f"'device' needs to be {expected}"):
        MFTrainer(planted(), device=device)


def test_cuda_graphs_need_cuda(planted):
    with pytest.raises(ValueError, match="'cuda_graphs'"):
        MFTrainer(planted(), MFConfig(cuda_graphs=True))


def test_held_out_interactions_in_training(planted):
    data = planted()
    store = data[OBSERVED]
    observed = store.edge_index[:, :5]
    val = store.val_edge_label_index
    store.val_edge_label_index = torch.cat([val, observed], dim=1)
    with pytest.warns(UserWarning, match="^5 of .*'val_edge_label_index'"):
        make(data)
    store.val_edge_label_index = store.edge_index
    with pytest.raises(ValueError, match="'val_edge_label_index'.*all of"):
        make(data)
    store.val_edge_label_index = store.test_edge_label_index = val
    with pytest.warns(UserWarning, match="'test_edge_label_index' are the sa"):
        make(data)
