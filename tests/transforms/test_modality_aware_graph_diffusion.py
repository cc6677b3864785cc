import pytest
import torch
import torch_geometric.transforms as T
from torch_geometric.data.datapipes import DatasetAdapter
from torch_geometric.typing import WITH_TORCH_SPARSE

from diffmm_geo.nn import MaskedDiffusion, ModalityDiffusion
from diffmm_geo.transforms import ModalityAwareGraphDiffusion
from tests.wrong_values import wrong_values

OBSERVED = ('user', 'interacts', 'item')
GENERATED = [('user', f'denoised_{m}', 'item') for m in ('image', 'text')]
FIT = {'embedding_dim': 4, 'num_epochs': 3, 'batch_size': 8}


def make(num_items=24, **kwargs):
    diffusion = ModalityDiffusion.paper(
        num_items, ['image', 'text'], hidden_channels=16, dropout=0.0
    )
    return ModalityAwareGraphDiffusion.paper(diffusion, **kwargs)


@pytest.mark.parametrize(
    'options',
    [
        {},
        {'sampling_steps': 2},
        {'sampling_noise': True},
        {'exclude_observed': True},
    ],
)
def test_transform(planted, options):
    data, transform = planted(), make(num_edges_per_user=24, **options)
    torch.manual_seed(1)
    out = transform(data)
    assert out.edge_types == [OBSERVED, *GENERATED]
    torch.manual_seed(1)
    for m in ('image', 'text'):
        expected = transform.diffusion.sample_edges(
            m, data[OBSERVED].edge_index, 32, 24, **options
        )
        actual = out['user', f'denoised_{m}', 'item'].edge_index
        assert actual.equal(expected)
    out.validate()
    assert data.edge_types == [OBSERVED]


def test_scale_and_shift_of_features_do_not_matter(planted):
    def run(change):
        data = planted()
        data['item'].x_text = change(data['item'].x_text)
        torch.manual_seed(0)
        transform = make(num_edges_per_user=2)
        data = transform.fit(data, msi_weight=10.0, **FIT)(data)
        return [data[edge_type].edge_index for edge_type in GENERATED]

    expected = run(lambda x: x)
    for change in (
        lambda x: 1000 * x,
        lambda x: x + 5,
        lambda x: 1e-3 * x - 2,
        lambda x: 100 * x.double() + 1e5,
    ):
        for out, edge_index in zip(run(change), expected):
            assert out.equal(edge_index)
    for edge_index in run(torch.ones_like):
        assert edge_index.size() == (2, 64)


@pytest.mark.parametrize('is_masked', [False, True])
def test_fit_finds_communities(planted, capsys, is_masked):
    pytest.importorskip('tqdm')
    edge_type = ('customer', 'buys', 'product')
    data = planted(edge_type=edge_type)
    diffusion = ModalityDiffusion(
        24,
        ['image', 'text'],
        MaskedDiffusion() if is_masked else None,
        hidden_channels=16,
        dropout=0.0,
    )
    transform = ModalityAwareGraphDiffusion(
        diffusion,
        edge_type=edge_type,
        num_edges_per_user=3,
        exclude_observed=is_masked,
    )

    def hits():
        out = transform(data)
        user, item = out['customer', 'denoised_text', 'product'].edge_index
        return float((user % 4 == item % 4).float().mean())

    assert hits() < 0.6
    args = {'batch_size': 8, 'lr': 1e-2, 'progress': True}
    assert transform.fit(data, num_epochs=40, **args) is transform
    assert hits() > 0.95
    assert data.edge_types == [edge_type]
    assert 'Diffusion' in capsys.readouterr().err


def without_held_out(data):
    r"""Which are no attributes that edges could be sorted with."""
    for split in ('val', 'test'):
        del data[OBSERVED][f'{split}_edge_label_index']
    return data


def test_other_transforms(planted):
    transform = make()
    expected = transform(planted())
    out = T.Compose([transform, T.ToUndirected()])(planted())
    for t in GENERATED:
        pairs = set(zip(*expected[t].edge_index.flip(0).tolist()))
        reverse = out['item', f'rev_{t[1]}', 'user'].edge_index
        assert set(zip(*reverse.tolist())) == pairs
    # A reverse edge type does not take the place of the observed one.
    outs = [out, transform(T.ToUndirected()(planted()))]
    if WITH_TORCH_SPARSE:
        data = without_held_out(planted())
        outs.append(transform(T.ToSparseTensor()(data)))
    diffusion = transform.diffusion
    pipe = DatasetAdapter([planted()])
    paper = {'num_edges_per_user': 1, 'exclude_observed': False}
    outs += list(pipe.modality_aware_graph_diffusion(diffusion, **paper))
    for out in outs:
        for t in GENERATED:
            assert out[t].edge_index.equal(expected[t].edge_index)


def change(data, what):
    if what == 'item size':
        data['item'].num_nodes = 25
    elif what == 'users':
        data['user'].num_nodes = 0
    elif what == 'range':
        data[OBSERVED].edge_index[1, 0] = 24
    return data


@pytest.mark.parametrize(
    ('what', 'name'),
    [('item size', 'data'), ('users', 'data'), ('range', 'edge_index')],
)
def test_bad_data(planted, what, name):
    data, transform = change(planted(), what), make()
    weight = transform.diffusion.denoisers['image'].item_weight.clone()
    for function in (transform, transform.fit):
        with pytest.raises(ValueError, match=f"'{name}'"):
            function(data)
    assert data.edge_types == [OBSERVED]
    assert transform.diffusion.denoisers['image'].item_weight.equal(weight)


@wrong_values(
    num_epochs=[0],
    batch_size=[0],
    lr=[0.0],
    msi_weight=[-1.0],
    embedding_dim=[0],
    item_emb=[torch.ones(23, 4), torch.full((24, 4), torch.nan)],
    modality_emb_dict=[
        {'image': torch.ones(24, 4)},
        dict.fromkeys(('image', 'text'), torch.ones(24, 5)),
    ],
)
def test_bad_settings_of_fit(planted, name, value):
    with pytest.raises(ValueError, match=f"'{name}"):
        make().fit(planted(), **{'item_emb': torch.ones(24, 4), name: value})


def test_repr_tells_transforms_apart():
    r"""PyG compares it with the one that data were processed with."""
    plain = (
        "ModalityAwareGraphDiffusion(ModalityDiffusion(24, ['image', 'text']"
    )
    for name, value in (
        ('edge_type', ('user', 'buys', 'item')),
        ('num_edges_per_user', 2),
        ('sampling_steps', 1),
        ('sampling_noise', True),
        ('exclude_observed', True),
    ):
        assert str(make(**{name: value})).startswith(plain)
        assert f', {name}={value!r}' in str(make(**{name: value}))
        assert f', {name}={value!r}' not in str(make())
