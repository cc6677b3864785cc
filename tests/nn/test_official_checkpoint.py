import os
import sys
import types
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from diffmm_geo.nn import Denoiser, DiffMM, load_official_checkpoint
from tests.pickled_call import PickledCall

# Stand-ins for the modules of the authors, with their names.


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.uEmbeds = nn.Parameter(torch.randn(5, 4))
        self.iEmbeds = nn.Parameter(torch.randn(6, 4))
        self.image_trans = nn.Linear(3, 4)
        self.text_trans = nn.Parameter(torch.randn(2, 4))
        self.image_embedding = torch.randn(6, 3)  # No part of the state.
        self.modal_weight = nn.Parameter(torch.tensor([0.5, 0.5]))
        self.gcnLayers = nn.Sequential(nn.Identity())
        self.softmax = nn.Softmax(dim=0)
        self.dropout = nn.Dropout(0.1)
        self.leakyrelu = nn.LeakyReLU(0.2)


class Denoise(nn.Module):
    def __init__(self):
        super().__init__()
        self.in_dims = [6, 7]
        self.emb_layer = nn.Linear(10, 10)
        self.in_layers = nn.ModuleList([nn.Linear(16, 7)])
        self.out_layers = nn.ModuleList([nn.Linear(7, 6)])
        self.drop = nn.Dropout(0.5)
        self.register_buffer('scratch', torch.ones(1), persistent=False)


@pytest.fixture
def save(tmp_path, monkeypatch):
    r"""Saves as the authors' code does, and removes its `Model.py`."""

    def save(value, name='diffmm.pt'):
        module = types.ModuleType('Model')
        with monkeypatch.context() as m:
            m.setitem(sys.modules, 'Model', module)
            for cls in (Model, Denoise):
                m.setattr(cls, '__module__', 'Model')
                setattr(module, cls.__name__, cls)
            torch.save(value, tmp_path / name)
        return tmp_path / name

    return save


def load(model, state_dict):
    model.load_official_state_dict(state_dict)
    return model


@pytest.mark.parametrize('whole', [True, False])
def test_model(save, whole):
    theirs = Model()
    path = save(theirs if whole else theirs.state_dict())
    assert 'Model' not in sys.modules
    state_dict = load_official_checkpoint(path)
    assert list(state_dict) == list(theirs.state_dict())
    model = DiffMM(
        5,
        6,
        {'image': 3, 'text': 2},
        4,
        projection={'image': 'linear', 'text': 'leaky_xavier'},
    )
    load(model, state_dict)
    assert_close(model.user_emb.weight, theirs.uEmbeds)
    x = torch.randn(6, 3)
    projected = model.projected({'image': x, 'text': torch.randn(6, 2)})
    assert_close(projected['image'], theirs.image_trans(x))


def test_several_modules(save):
    model, image, text = Model(), Denoise(), Denoise()
    path = save({'model': model, 'denoise': [image, text], 'epoch': 3})
    saved = load_official_checkpoint(path)
    assert saved['epoch'] == 3
    assert set(saved['denoise'][0]) == set(image.state_dict())
    assert 'scratch' not in saved['denoise'][0]
    for theirs, state_dict in zip((image, text), saved['denoise'].values()):
        ours = load(Denoiser(6, 7), state_dict)
        assert_close(ours.lin_out.weight, theirs.out_layers[0].weight)
        assert not any(x.requires_grad for x in state_dict.values())


@pytest.mark.parametrize('nested', [True, False])
def test_nothing_is_executed(save, tmp_path, nested):
    victim = tmp_path / 'victim'
    hostile = PickledCall(os.system, f'touch {victim}')
    if nested:
        model = Model()
        model.in_dims = hostile
        hostile = model
    path = save(hostile)
    with pytest.raises(ValueError, match='diffmm.pt.*not allowed'):
        load_official_checkpoint(path)
    assert not victim.exists()


def test_names_of_functions_are_not_allowed(save):
    path = save(PickledCall(torch.nn.init.ones_, torch.zeros(2)))
    with pytest.raises(ValueError, match=r'diffmm.pt.*nn\.init.*not allowed'):
        load_official_checkpoint(path)


class Setter:
    # Pickled as a module whose state is none.
    def __reduce__(self):
        return Model, (), {'_modules': 3}


def test_module_without_its_parts(save):
    path = save(Setter())
    with pytest.raises(ValueError, match='diffmm.pt.*KeyError'):
        load_official_checkpoint(path)


@pytest.mark.parametrize('value', [3, 'text', torch.ones(2)])
def test_other_content(save, value):
    with pytest.raises(ValueError, match='diffmm.pt.*an object of type'):
        load_official_checkpoint(save(value))


def test_damaged_files(save, tmp_path):
    with pytest.raises(FileNotFoundError, match='nothing.pt'):
        load_official_checkpoint(tmp_path / 'nothing.pt')
    path = save(OrderedDict(a=torch.ones(300)))
    content = path.read_bytes()
    for size in (0, 10, len(content) // 2, len(content) - 5):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=f'diffmm.pt.* {size} bytes'):
            load_official_checkpoint(path)
    place = content.index(torch.ones(300).numpy().tobytes()) + 100
    path.write_bytes(content[:place] + b'\x11' + content[place + 1 :])
    with pytest.raises(ValueError, match='diffmm.pt.*is damaged'):
        load_official_checkpoint(path)
    # PyTorch's reader seeks a position that the file does not have.
    path = save(OrderedDict(a=torch.ones(3)))
    path.write_bytes(path.read_bytes() + bytes(5000))
    with pytest.raises(ValueError, match='diffmm.pt.*OSError'):
        load_official_checkpoint(path)
    torch.save(Model().state_dict(), path, _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match='diffmm.pt.*1.6'):
        load_official_checkpoint(path)
