import pytest
import torch

from diffmm_geo.utils.tf32 import has_tf32, tf32_products


def settings():
    matmul = torch.backends.cuda.matmul
    return matmul.fp32_precision, matmul.allow_tf32


@pytest.fixture(params=[False, True])
def allowed(request):
    r"""Either setting of the user."""
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.allow_tf32 = request.param
    yield request.param
    torch.backends.cuda.matmul.fp32_precision = before


def test_setting_is_restored(allowed):
    before = settings()
    with pytest.raises(KeyError), tf32_products():
        assert torch.backends.cuda.matmul.fp32_precision == 'tf32'
        raise KeyError
    assert settings() == before
    with tf32_products(enabled=False):
        assert settings() == before


def test_not_on_a_cpu():
    assert not has_tf32(torch.device('cpu'))
