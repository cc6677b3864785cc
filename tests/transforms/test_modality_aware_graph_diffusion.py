import pytest
import torch
import torch_geometric.transforms as T
from torch_geometric.data import HeteroData

from diffmm_geo.datasets import MMRecDataset, write_mmrec
from diffmm_geo.nn import MaskedDiffusion, ModalityDiffusion
from diffmm_geo.transforms import ModalityAwareGraphDiffusion
from tests.wrong_values import wrong_values

OBSERVED = ('user', 'interacts', 'item')
FIT = {'embedding_dim': 4, 'num_epochs': 3, 'batch_size': 8}


def make(num_items=24, **kwargs):
    diffusion = ModalityDiffusion(
        num_items, ['image', 'text'], hidden_channels=16, dropout=0.0
    )
    return ModalityAwareGraphDiffusion(diffusion, **kwargs)


@pytest.mark.parametrize('options', [(0, False), (2, False), (0, True)])
def test_transform(planted, options):
    data = planted()
    transform = make(
        num_edges_per_user=2,
        sampling_steps=options[0],
        sampling_noise=options[1],
    )
    torch.manual_seed(1)
    out = transform(data)
    assert out.edge_types == [
        OBSERVED,
        ('user', 'denoised_image', 'item'),
        ('user', 'denoised_text', 'item'),
    ]
    torch.manual_seed(1)
    for m in ('image', 'text'):
        expected = transform.diffusion.sample_edges(
            m, data[OBSERVED].edge_index, 32, 2, *options
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
        return [
            data['user', f'denoised_{m}', 'item'].edge_index
            for m in ('image', 'text')
        ]

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


def test_observed_items_are_not_generated(planted):
    data = planted()
    observed = set(zip(*data[OBSERVED].edge_index.tolist()))
    data = make(num_edges_per_user=24, exclude_observed=True)(data)
    for m in ('image', 'text'):
        edge_index = data['user', f'denoised_{m}', 'item'].edge_index
        assert edge_index.size(1) == 32 * 24 - len(observed)
        assert not observed & set(zip(*edge_index.tolist()))


def test_masked_diffusion(planted):
    torch.manual_seed(0)
    diffusion = ModalityDiffusion(
        24, ['image', 'text'], MaskedDiffusion(), hidden_channels=16
    )
    transform = ModalityAwareGraphDiffusion(
        diffusion, num_edges_per_user=3, exclude_observed=True
    )
    data = planted()
    data = transform.fit(data, num_epochs=40, batch_size=8, lr=1e-2)(data)
    user, item = data['user', 'denoised_text', 'item'].edge_index
    assert ((user - item) % 4 == 0).float().mean() > 0.95


def test_functional_name(planted):
    datapipes = pytest.importorskip('torch_geometric.data.datapipes')
    diffusion = make().diffusion
    pipe = datapipes.DatasetAdapter([planted()])
    (out,) = pipe.modality_aware_graph_diffusion(diffusion)
    expected = ModalityAwareGraphDiffusion(diffusion)(planted())
    assert out.edge_types == expected.edge_types


def test_fit_finds_communities(planted):
    torch.manual_seed(0)
    data = planted()
    transform = make(num_edges_per_user=3)

    def hits(data):
        edge_index = data['user', 'denoised_image', 'item'].edge_index
        return float((edge_index[0] % 4 == edge_index[1] % 4).float().mean())

    before = hits(transform(data))
    transform.fit(data, num_epochs=60, batch_size=8, lr=1e-2, embedding_dim=4)
    after = hits(transform(data))
    assert before < 0.6
    assert after > 0.9
    assert data.edge_types == [OBSERVED]


def test_fit_with_progress(planted, capsys):
    pytest.importorskip('tqdm')
    transform = make()
    assert transform.fit(planted(), progress=True, **FIT) is transform
    assert 'Diffusion' in capsys.readouterr().err


def test_fit_features_in_double(planted):
    data = planted()
    for m in ('image', 'text'):
        data['item'][f'x_{m}'] = data['item'][f'x_{m}'].double()
    make().fit(data, **FIT)


def test_compose_and_to_undirected(planted):
    data, transform = planted(), make()
    expected = transform(data)
    out = T.Compose([transform, T.ToUndirected()])(data)
    for m in ('image', 'text'):
        edge_type = ('user', f'denoised_{m}', 'item')
        edge_index = expected[edge_type].edge_index
        assert out[edge_type].edge_index.equal(edge_index)
        reverse = out['item', f'rev_denoised_{m}', 'user'].edge_index
        pairs = set(zip(*edge_index.flip(0).tolist()))
        assert set(zip(*reverse.tolist())) == pairs
    # A reverse edge type does not take the place of the observed one.
    again = transform(T.ToUndirected()(data))
    for m in ('image', 'text'):
        edge_type = ('user', f'denoised_{m}', 'item')
        edge_index = expected[edge_type].edge_index
        assert again[edge_type].edge_index.equal(edge_index)


def test_after_to_sparse_tensor(planted):
    pytest.importorskip('torch_sparse')
    data, transform = planted(), make()
    expected = transform(data)
    # Held-out edges are no attributes that edges could be sorted with.
    for split in ('val', 'test'):
        del data[OBSERVED][f'{split}_edge_label_index']
    out = transform(T.ToSparseTensor()(data))
    edge_type = ('user', 'denoised_image', 'item')
    assert out[edge_type].edge_index.equal(expected[edge_type].edge_index)


def test_custom_edge_type(planted):
    edge_type = ('customer', 'buys', 'product')
    data = planted(edge_type=edge_type)
    transform = make(edge_type=edge_type).fit(data, **FIT)
    out = transform(data)
    assert ('customer', 'denoised_image', 'product') in out.edge_types
    assert ('customer', 'denoised_text', 'product') in out.edge_types


def without(data, what):
    if what == 'edges':
        del data[OBSERVED]
    elif what == 'item size':
        data['item'].num_nodes = 25
    elif what == 'range':
        data[OBSERVED].edge_index[1, 0] = 24
    elif what == 'users':
        data['user'].num_nodes = 0
    elif what == 'shape':
        data[OBSERVED].edge_index = torch.zeros(3, 2).long()
    return data


@pytest.mark.parametrize(
    ('what', 'name'),
    [
        ('edges', 'data'),
        ('item size', 'data'),
        ('range', 'edge_index'),
        ('users', 'data'),
        ('shape', 'edge_index'),
    ],
)
def test_bad_data(planted, what, name):
    data = without(planted(), what)
    before = list(data.edge_types)
    transform = make()
    weight = transform.diffusion.denoisers['image'].item_weight.clone()
    for function in (transform, transform.fit):
        with pytest.raises(ValueError, match=f"'{name}'"):
            function(data)
    assert list(data.edge_types) == before
    assert transform.diffusion.denoisers['image'].item_weight.equal(weight)


@wrong_values(embedding_dim=[0], num_epochs=[0], item_emb=[torch.zeros(23, 4)])
def test_bad_fit(planted, name, value):
    with pytest.raises(ValueError, match=f"'{name}'"):
        make().fit(planted(), **{name: value})


def test_no_interactions(planted):
    data, transform = planted(), make()
    data[OBSERVED].edge_index = torch.empty(2, 0, dtype=torch.long)
    with pytest.raises(ValueError, match='at least one interaction'):
        transform.fit(data)


def test_fit_needs_features(planted):
    data = planted()
    del data['item'].x_text
    with pytest.raises(ValueError, match="'modalities'"):
        make().fit(data)


@wrong_values(
    edge_type=['interacts'],
    num_edges_per_user=[0, 25],
    sampling_steps=[-1],
    exclude_observed=[1],
)
def test_bad_arguments(name, value):
    with pytest.raises(ValueError, match=f"'{name}'"):
        make(**{name: value})


def test_bad_diffusion():
    with pytest.raises(ValueError, match="'diffusion'"):
        ModalityAwareGraphDiffusion(torch.nn.Linear(1, 1))


def test_not_heterogeneous():
    with pytest.raises(ValueError, match="'data'"):
        make().fit({'user': HeteroData()})


def test_repr():
    assert str(make()) == (
        "ModalityAwareGraphDiffusion(ModalityDiffusion(24, ['image', "
        "'text']), num_edges_per_user=1)"
    )


@pytest.mark.parametrize(
    'kwargs',
    [
        {'edge_type': ('user', 'buys', 'item')},
        {'num_edges_per_user': 2},
        {'sampling_steps': 1},
        {'sampling_noise': True},
        {'exclude_observed': True},
    ],
)
def test_repr_tells_transforms_apart(planted, tmp_path, kwargs):
    r"""PyG compares it with the one that data were processed with."""
    ((name, value),) = kwargs.items()
    assert f'{name}={value!r}' in str(make(**kwargs))
    write_mmrec(planted(), tmp_path / 'raw', 'shop')
    MMRecDataset(tmp_path, 'shop', pre_transform=make())
    with pytest.warns(UserWarning, match='.pre_transform. argument differs'):
        MMRecDataset(tmp_path, 'shop', pre_transform=make(**kwargs))
