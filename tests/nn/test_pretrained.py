import json
import os

import pytest
import torch
from torch.testing import assert_close

from diffmm_geo.nn import (
    DiffMM,
    GaussianDiffusion,
    MaskedDiffusion,
    ModalityDiffusion,
    pretrained,
)
from diffmm_geo.sparse import BipartiteAdj


def with_features():
    out = ModalityDiffusion(7, ['text.bert', 'image'], hidden_channels=4)
    features = {'text.bert': torch.randn(7, 2), 'image': torch.randn(7, 3)}
    out.set_features(features, torch.arange(7) < 5)
    return out


MODULES = {
    'DiffMM': lambda: DiffMM(
        5,
        7,
        {'image': 3, 'text.bert': 2},
        embedding_dim=4,
        num_layers=2,
        generated_weight=0.3,
        residual_weight=0.7,
        projection={'image': 'linear', 'text.bert': 'leaky_xavier'},
        edge_type=('customer', 'buys', 'product'),
    ),
    'DiffMM of standardized features': lambda: DiffMM(
        *(5, 7, {'image': 3, 'text': 2}, 4), standardize=True
    ),
    'ModalityDiffusion': lambda: ModalityDiffusion(
        7,
        ['text.bert', 'image'],
        GaussianDiffusion(3, 0.2, 1e-3, 0.1),
        hidden_channels=[4, 6],
        time_channels=5,
        dropout=0.2,
        normalize=True,
    ),
    'Masked ModalityDiffusion': lambda: ModalityDiffusion(
        7, ['image'], MaskedDiffusion(3), hidden_channels=4
    ),
    'ModalityDiffusion with features': with_features,
}


@pytest.fixture(params=MODULES)
def saved(request):
    out = MODULES[request.param]()
    for p in out.parameters():
        torch.nn.init.normal_(p)
    return out


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    assert a.keys() == b.keys()
    return all(a[k].dtype == b[k].dtype and a[k].equal(b[k]) for k in a)


@pytest.mark.parametrize('dtype', [torch.float, torch.double, torch.bfloat16])
def test_loads_what_was_saved(saved, tmp_path, dtype):
    folder = tmp_path / 'new' / 'folder'
    saved.to(dtype).save_pretrained(folder)
    assert sorted(os.listdir(folder)) == ['config.json', 'model.safetensors']
    state = torch.get_rng_state()
    loaded = type(saved).from_pretrained(folder)
    assert torch.get_rng_state().equal(state)  # Nothing is drawn.
    assert same(loaded, saved) and str(loaded) == str(saved)
    assert loaded.config == saved.config
    assert not loaded.training
    assert all(p.requires_grad for p in loaded.parameters())
    assert all(x.device.type == 'cpu' for x in loaded.state_dict().values())


def test_failure_leaves_the_earlier_save(saved, tmp_path, monkeypatch):
    saved.save_pretrained(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def fail(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(pretrained, 'sha256sum', fail)
        with pytest.raises(KeyboardInterrupt):
            saved.double().save_pretrained(tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    saved.save_pretrained(tmp_path)
    assert same(type(saved).from_pretrained(tmp_path), saved)


def change(*keys, to):
    def edit(folder):
        path = folder / 'config.json'
        content = target = json.loads(path.read_text())
        for key in keys[:-1]:
            target = target[key]
        target[keys[-1]] = to
        path.write_text(json.dumps(content))

    return edit


def cut(name):
    def edit(folder):
        path = folder / name
        path.write_bytes(path.read_bytes()[:-30])

    return edit


def flip(folder):
    path = folder / 'model.safetensors'
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ('edit', 'message'),
    [
        (cut('config.json'), r'config\.json.*complete JSON'),
        (cut('model.safetensors'), r'model\.safetensors.*whole'),
        (flip, r'model\.safetensors.*damaged'),
        (change('library', to='other'), r"config\.json.*library': 'other'"),
        (change('format', to=2), r"config\.json.*got: .*'format': 2"),
        (change('class', to='Other'), r"config\.json.*got: .*'Other'"),
        (change('config', to=3), r'config\.json.*got: .*int'),
        (change('config', to={}), 'arguments and the weights'),
        (change('config', 'x', to=1), "arguments and the weights.*'x'"),
        (change('config', 'num_items', to=0), "arguments.*'num_items'"),
        (change('config', 'num_items', to=9), 'weights.*size mismatch'),
        (change('sha256', to={}), r'model\.safetensors.*another'),
    ],
)
def test_damaged_or_foreign(saved, tmp_path, edit, message):
    saved.save_pretrained(tmp_path)
    edit(tmp_path)
    with pytest.raises(ValueError, match=f'(?s){message}'):
        type(saved).from_pretrained(tmp_path)


@pytest.mark.parametrize('half', [False, True])
def test_weights_of_other_types(saved, tmp_path, monkeypatch, half):
    state = saved.state_dict()
    for key in list(state)[half:]:
        state[key] = state[key].half() if half else state[key].long()
    monkeypatch.setattr(saved, 'state_dict', lambda: state)
    saved.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match='one floating point type'):
        type(saved).from_pretrained(tmp_path)


@pytest.mark.parametrize('name', ['config.json', 'model.safetensors'])
def test_missing(saved, tmp_path, name):
    saved.save_pretrained(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        type(saved).from_pretrained(tmp_path)


def test_another_diffusion_process(tmp_path):
    class Cosine(GaussianDiffusion):
        pass

    diffusion = ModalityDiffusion(7, ['a'], Cosine(), hidden_channels=4)
    with pytest.raises(ValueError, match="'diffusion'.*Cosine"):
        diffusion.save_pretrained(tmp_path / 'new')
    assert not (tmp_path / 'new').exists()


def test_bad_device(saved, tmp_path):
    with pytest.raises(ValueError, match="'device'"):
        type(saved).from_pretrained(tmp_path, 'cuda:99')


U, I = 5, 7
OBSERVED = ('user', 'interacts', 'item')
GENERATED = ('user', 'denoised_image', 'item')
RAW_IDS = {'user': list('abcde'), 'item': ['', '007', '"a"', 'çem', *'efg']}


def with_graphs():
    return DiffMM(U, I, {'image': 3}, 4)


@pytest.fixture
def graphs(random_edges):
    return {t: random_edges(U, I, 9) for t in (OBSERVED, GENERATED)}


def test_graphs_and_ids(adj_form, graphs, tmp_path):
    model, features = with_graphs(), {'image': torch.randn(I, 3)}
    forms = {key: adj_form(e, (U, I)) for key, e in graphs.items()}
    if isinstance(forms[OBSERVED], BipartiteAdj):  # Already normalized.
        with pytest.raises(ValueError, match="'edge_index_dict.*Bipartite"):
            model.save_pretrained(tmp_path / 'new', forms)
        assert not (tmp_path / 'new').exists()
        return
    model.save_pretrained(tmp_path, forms, RAW_IDS)
    loaded = DiffMM.from_pretrained(tmp_path)
    assert loaded.load_raw_ids(tmp_path) == RAW_IDS
    found = loaded.load_graphs(tmp_path)
    assert list(found) == list(graphs)
    for key, e in graphs.items():
        assert found[key].unique(dim=1).equal(e.unique(dim=1))
    assert_close(loaded(features, found), model(features, graphs))

    model.save_pretrained(tmp_path)  # Without graphs: theirs would be stale.
    for load in (model.load_graphs, model.load_raw_ids):
        with pytest.raises(FileNotFoundError, match='safetensors'):
            load(tmp_path)


def weighted(edge_index):
    return torch.sparse_coo_tensor(edge_index.flip(0), torch.rand(9), (I, U))


@pytest.mark.parametrize(
    ('edit', 'raw_ids', 'message'),
    [
        (lambda e: {}, None, "'edge_index_dict' needs .*interacts"),
        (lambda e: {OBSERVED: e + U}, None, "'edge_index_dict.* source"),
        (lambda e: {OBSERVED: weighted(e)}, None, "'edge_index_dict.*weights"),
        (lambda e: None, {'user': RAW_IDS['user']}, "'raw_id_dict' needs"),
        (
            lambda e: None,
            {**RAW_IDS, 'item': RAW_IDS['user']},
            r"'raw_id_dict\['item'\]' needs 7 strings",
        ),
    ],
)
def test_bad_graphs_and_ids(graphs, tmp_path, edit, raw_ids, message):
    with pytest.raises(ValueError, match=message):
        with_graphs().save_pretrained(
            tmp_path / 'new', edit(graphs[OBSERVED]), raw_ids
        )
    assert not (tmp_path / 'new').exists()


def test_graphs_of_another_model(graphs, tmp_path):
    with_graphs().save_pretrained(tmp_path, graphs, RAW_IDS)
    smaller = DiffMM(U, I - 3, {'image': 3}, 4)
    for load in (smaller.load_graphs, smaller.load_raw_ids):
        with pytest.raises(ValueError, match=r'(graphs|raw_ids)\.safetensors'):
            load(tmp_path)
    buys = DiffMM(U, I, {'image': 3}, 4, edge_type=('user', 'buys', 'item'))
    with pytest.raises(ValueError, match=r'graphs\.safetensors.*buys'):
        buys.load_graphs(tmp_path)
    cut('graphs.safetensors')(tmp_path)
    with pytest.raises(ValueError, match=r'graphs\.safetensors.*whole'):
        with_graphs().load_graphs(tmp_path)


@pytest.mark.parametrize(
    ('name', 'dtype'), [('item_weight', torch.bool), ('observed', torch.float)]
)
def test_flags_are_no_weights(tmp_path, monkeypatch, name, dtype):
    saved = with_features()
    state = saved.state_dict()
    name = f'_denoisers.modality_image.{name}'
    changed = {**state, name: state[name].to(dtype)}
    monkeypatch.setattr(saved, 'state_dict', lambda: changed)
    saved.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match='arguments and the weights'):
        type(saved).from_pretrained(tmp_path)
