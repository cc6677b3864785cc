import sys

import pytest
import torch

from diffmm_geo.utils.tensor_file import read_tensors, write_tensors


def test_reads_what_was_written(tmp_path):
    tensors = {
        'a.b': torch.randn(3, 2, requires_grad=True),
        'transposed': torch.randn(3, 2).t(),
        'half': torch.randn(2).bfloat16(),
        '["user", "sees", "item"]': torch.empty(2, 0, dtype=torch.long),
    }
    write_tensors(tmp_path / 'x.safetensors', tensors)
    out = read_tensors(tmp_path / 'x.safetensors')
    assert out.keys() == tensors.keys()
    for name, x in tensors.items():
        assert out[name].dtype == x.dtype and out[name].equal(x)


def test_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'safetensors', None)
    with pytest.raises(ImportError, match=r'diffmm_geo\[safetensors\]'):
        write_tensors(tmp_path / 'x.safetensors', {})
    with pytest.raises(ImportError, match=r'diffmm_geo\[safetensors\]'):
        read_tensors(tmp_path / 'x.safetensors')
    assert list(tmp_path.iterdir()) == []
