import pytest

from diffmm_geo.ops import available_backends
from diffmm_geo.ops.spmm import BACKENDS


@pytest.fixture(params=sorted(BACKENDS))
def name(request):
    r"""Each backend that is installed."""
    if request.param not in available_backends():
        pytest.skip(f"'{request.param}' is not installed")
    return request.param
