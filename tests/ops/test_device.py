import pytest
import torch

from diffmm_geo.ops.device import runs_triton

pytest.importorskip('triton')


def test_runs_triton(monkeypatch):
    monkeypatch.setenv('TRITON_INTERPRET', '1')
    assert runs_triton(torch.device('cpu'))
    monkeypatch.delenv('TRITON_INTERPRET')
    assert not runs_triton(torch.device('cpu'))
    assert runs_triton(torch.device('cuda'))
