import math

import pytest
import torch

from diffmm_geo.tasks import task as task_module
from diffmm_geo.training import (
    DiffMMConfig,
    DiffMMTrainer,
    LightGCNConfig,
    LightGCNTrainer,
)
from tests.tasks.task_protocol import OBSERVED
from tests.wrong_values import wrong_values


def make(data, edge_type=OBSERVED):
    return LightGCNTrainer(data, LightGCNConfig(k=3), edge_type)


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


@pytest.mark.parametrize('name', ['edge_weight', 'edge_attr'])
def test_weights_are_refused(planted, name):
    data = planted()
    store = data[OBSERVED]
    store[name] = torch.rand(store.edge_index.size(1))
    with pytest.raises(ValueError, match=f"'data' needs edges.*'{name}'"):
        make(data)


@wrong_values(
    num_epochs=[0],
    patience=[0],
    batch_size=[0],
    lr=[0.0, -1.0],
    reg_weight=[-1.0],
    k=[0],
    metric=['recall@3'],
    seed=[-1],
    ssl_weight=[-1.0],
    keep_rate=[0.0],
    msi_weight=[math.nan],
    num_edges_per_user=[0],
    likelihood=['poisson', None],
    standardize=[1],
    exclude_observed=['yes'],
)
def test_bad_config(name, value):
    with pytest.raises(ValueError, match=f"'{name}'"):
        DiffMMConfig(**{name: value})


@wrong_values(
    noise_scale=[0.5],
    noise_min=[1e-3],
    noise_max=[0.1],
    dropout=[0.2],
    diffusion_form=['gram'],
)
def test_settings_of_the_other_process(name, value):
    # They would have no effect. The paper's process has them.
    with pytest.raises(ValueError, match=f"'{name}'.*'?likelihood'?"):
        DiffMMConfig(**{name: value})
    DiffMMConfig(likelihood='gaussian', **{name: value})


@pytest.mark.parametrize(
    ('settings', 'error'),
    [
        ({'device': 'cuda:99'}, "'device' needs to be an available device"),
        ({'device': 'gpu'}, "'device' needs to be a device"),
        ({'edge_type': ('user', 'likes', 'item')}, "'data' needs edges of"),
        ({'precision': 'tf32'}, "'precision' .*'tf32' on 'cpu'"),
        ({'cuda_graphs': True}, "'cuda_graphs'"),
    ],
)
def test_what_cannot_train(planted, settings, error):
    args = {
        k: settings.pop(k) for k in ('device', 'edge_type') if k in settings
    }
    with pytest.raises(ValueError, match=error):
        LightGCNTrainer(planted(), LightGCNConfig(**settings), **args)


@pytest.fixture(params=[False, True])
def allowed(request):
    r"""Either setting of the user."""
    settings = torch.backends.cuda.matmul
    before = settings.fp32_precision
    settings.allow_tf32 = request.param
    yield settings
    settings.fp32_precision = before


def test_tf32_ends_with_training(planted, monkeypatch, allowed):
    monkeypatch.setattr(task_module, 'has_tf32', lambda _: True)
    before = allowed.fp32_precision, allowed.allow_tf32
    config = DiffMMConfig(
        precision='tf32', num_epochs=2, hidden_channels=8, k=3
    )
    trainer = DiffMMTrainer(planted(), config)
    seen = []
    train_epoch = trainer.task.diffusion.train_epoch

    def spied(*args):
        seen.append(allowed.fp32_precision)
        if len(seen) > 1:
            raise KeyboardInterrupt
        return train_epoch(*args)

    monkeypatch.setattr(trainer.task.diffusion, 'train_epoch', spied)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    assert seen == ['tf32', 'tf32']
    assert (allowed.fp32_precision, allowed.allow_tf32) == before


def test_interactions_of_an_epoch(planted):
    data, num_epochs = planted(), 20
    edge_index = data[OBSERVED].edge_index
    task = make(data).task
    batches = [b for _ in range(num_epochs) for b in task.triples()]
    assert len(batches) == num_epochs * task.num_batches
    triples = torch.cat(batches, dim=1)
    # Each pair is an observed interaction with an item that is not.
    keys = [u * 24 + i for u, i in (edge_index, triples[:2], triples[::2])]
    assert not torch.isin(keys[2], keys[0]).any()
    pairs, count = keys[1].unique(return_counts=True)
    assert pairs.equal(keys[0].sort().values)
    assert (count == num_epochs).all()  # Each of them, once an epoch.


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
