import os
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from inspect import getmembers

import pytest
import torch

# Set before any kernel is defined: without a GPU, kernels are interpreted.
if not torch.cuda.is_available():
    os.environ['TRITON_INTERPRET'] = '1'

from torch_geometric import EdgeIndex

from diffmm_geo.sparse import BipartiteAdj
from tests.planted import planted

pytest.register_assert_rewrite('tests.tasks.task_protocol')


def mend_interpreter():
    r"""The interpreter of Triton 3.6 takes the :obj:`int` of arrays of one
    entry, which NumPy 2.5 does not give.
    """
    from triton.runtime import interpreter

    patch = interpreter._patch_lang_tensor

    def patch_lang_tensor(tensor, scope):
        patch(tensor, scope)
        scope.set_attr(
            tensor, '__index__', lambda self: self.handle.data.item()
        )

    interpreter._patch_lang_tensor = patch_lang_tensor


def quicken_interpreter():
    r"""The interpreter searches Triton for built-in functions in each call of
    a function in a kernel. Here, it searches once, and finds the same.
    """
    from triton.language.core import is_builtin
    from triton.runtime import interpreter

    @cache
    def names_in(package):
        return [name for name, _ in getmembers(package, is_builtin)]

    def patch_builtin(package, builder, scope):
        for name in names_in(package):
            member = getattr(package, name)
            if is_builtin(member):  # Not replaced yet.
                interpreter._patch_attr(package, name, member, builder, scope)

    interpreter._patch_builtin = patch_builtin


with suppress(PackageNotFoundError):
    if version('triton').startswith('3.6.'):
        mend_interpreter()
    quicken_interpreter()


def pytest_addoption(parser):
    parser.addoption(
        '--fuzz',
        type=int,
        metavar='COUNT',
        help='the number of inputs to each reader (500)',
    )
    parser.addoption('--device', help='of tests/device: cuda, or cpu')


def pytest_runtest_setup(item):
    if item.get_closest_marker('gpu') and not torch.cuda.is_available():
        pytest.skip('needs a CUDA device')


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def _sparse_tensor(edge_index, size):
    sparse = pytest.importorskip('torch_sparse')
    return sparse.SparseTensor(
        row=edge_index[1], col=edge_index[0], sparse_sizes=size[::-1]
    )


def _coo(edge_index, size):
    # Uncoalesced, as `torch.sparse_coo_tensor` leaves it.
    value = torch.ones(edge_index.size(1))
    return torch.sparse_coo_tensor(edge_index.flip(0), value, size[::-1])


ADJ_FORMS = {
    'EdgeIndex': lambda e, size: EdgeIndex(e, sparse_size=size),
    'SparseTensor': _sparse_tensor,
    'COO': _coo,
    'CSR': lambda e, size: _coo(e, size).to_sparse_csr(),
    'CSC': lambda e, size: _coo(e, size).to_sparse_csc(),
    'BipartiteAdj': lambda e, size: BipartiteAdj.from_adj(e, size),
    'prepared': lambda e, size: BipartiteAdj.from_adj(e, size, prepare=True),
}


@pytest.fixture(params=ADJ_FORMS)
def adj_form(request):
    r"""Converts an `edge_index` to another form that a layer accepts."""
    return ADJ_FORMS[request.param]


@pytest.fixture
def random_edges():
    r"""Distinct edges. The last user and the last item have none."""

    def make(num_users, num_items, num_edges):
        pairs = torch.randperm((num_users - 1) * (num_items - 1))[:num_edges]
        return torch.stack([pairs // (num_items - 1), pairs % (num_items - 1)])

    return make


@pytest.fixture(name='planted')
def planted_fixture():
    return planted
