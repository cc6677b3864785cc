import json
import os

import pytest
import torch

from diffmm_geo.nn import (
    DiffMM,
    GaussianDiffusion,
    ItemGraphLightGCN,
    MaskedDiffusion,
    ModalityDiffusion,
)
from diffmm_geo.nn import pretrained as module

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
    'ItemGraphLightGCN': lambda: ItemGraphLightGCN(
        5,
        7,
        {'image': 3, 'text.bert': 2},
        embedding_dim=4,
        num_layers=2,
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


def test_config_is_what_constructs(saved):
    config = json.loads(json.dumps(saved.config))
    built = type(saved).from_config(config)
    assert built.config == saved.config
    built.load_state_dict(saved.state_dict())


def test_likelihood_of_earlier_saves():
    module = MODULES['ModalityDiffusion']()
    config = module.config
    assert config.pop('likelihood') == 'gaussian'
    assert ModalityDiffusion.from_config(config).config == module.config
    masked = MODULES['Masked ModalityDiffusion']()
    assert type(type(masked).from_config(masked.config).diffusion) is (
        MaskedDiffusion
    )


def test_saving_again_replaces(saved, tmp_path):
    saved.save_pretrained(tmp_path)
    for p in saved.parameters():
        torch.nn.init.normal_(p)
    saved.save_pretrained(tmp_path)
    assert same(type(saved).from_pretrained(tmp_path), saved)


def test_failure_leaves_the_earlier_save(saved, tmp_path, monkeypatch):
    saved.save_pretrained(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def fail(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, 'sha256sum', fail)
    with pytest.raises(KeyboardInterrupt):
        saved.double().save_pretrained(tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def change(key, value):
    def edit(folder):
        path = folder / 'config.json'
        content = json.loads(path.read_text())
        target = content
        for part in key[:-1]:
            target = target[part]
        target[key[-1]] = value
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
        (change(['library'], 'other'), r'config\.json.*diffmm_geo'),
        (change(['format'], 2), r"config\.json.*'format' to be 1 .got int: 2"),
        (change(['class'], 'Other'), r"config\.json.*got str: 'Other'"),
        (change(['config'], []), r"config\.json.*'config'"),
        (change(['config'], {}), r'config\.json.*arguments'),
        (change(['config', 'x'], 1), r'config\.json.*arguments'),
        (change(['config', 'num_items'], 0), r"config\.json.*'num_items'"),
        (change(['config', 'num_items'], 9), r'model\.safetensors.*shape'),
        (change(['sha256'], {}), r'model\.safetensors.*another'),
    ],
)
def test_damaged_or_foreign(saved, tmp_path, edit, message):
    saved.save_pretrained(tmp_path)
    edit(tmp_path)
    with pytest.raises(ValueError, match=message):
        type(saved).from_pretrained(tmp_path)


def test_integers(saved, tmp_path, monkeypatch):
    state = {k: v.long() for k, v in saved.state_dict().items()}
    monkeypatch.setattr(saved, 'state_dict', lambda: state)
    saved.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match='floating point'):
        type(saved).from_pretrained(tmp_path)


@pytest.mark.parametrize('name', ['config.json', 'model.safetensors'])
def test_missing(saved, tmp_path, name):
    saved.save_pretrained(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        type(saved).from_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match='none'):
        type(saved).from_pretrained(tmp_path / 'none')


def test_of_another_save(saved, tmp_path):
    saved.save_pretrained(tmp_path)
    config = (tmp_path / 'config.json').read_bytes()
    torch.nn.init.normal_(next(saved.parameters()))
    saved.save_pretrained(tmp_path)
    (tmp_path / 'config.json').write_bytes(config)
    with pytest.raises(ValueError, match=r'model\.safetensors.*another'):
        type(saved).from_pretrained(tmp_path)


def test_another_diffusion_process(tmp_path):
    class Cosine(GaussianDiffusion):
        pass

    diffusion = ModalityDiffusion(7, ['a'], Cosine(), hidden_channels=4)
    with pytest.raises(ValueError, match="'diffusion'.*Cosine"):
        diffusion.save_pretrained(tmp_path / 'new')
    assert not (tmp_path / 'new').exists()


def test_bad_device(saved, tmp_path):
    saved.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'device'"):
        type(saved).from_pretrained(tmp_path, 'cuda:99')
