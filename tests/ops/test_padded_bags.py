import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffmm_geo.ops.spmm import spmm
from diffmm_geo.ops.spmm.embedding_bag import padded_bags
from diffmm_geo.sparse import CSR, SparseMatrix


def csr_of(degree):
    rowptr = torch.tensor([0, *degree]).cumsum(0)
    col = torch.zeros(int(rowptr[-1]), dtype=torch.long)
    return CSR(rowptr, col, (len(degree), 1))


def busiest(offsets, num_threads):
    num_bags = offsets.numel() - 1
    share = -(-num_bags // num_threads)
    border = (torch.arange(num_threads + 1) * share).clamp(max=num_bags)
    return int(offsets[border].diff().max())


@given(
    degree=st.lists(st.integers(0, 50), max_size=60),
    num_threads=st.integers(2, 9),
)
def test_rows_are_where_they_should_be(degree, num_threads):
    csr, num_rows = csr_of(degree), len(degree)
    rowptr = csr.narrow.rowptr
    offsets, num_front = padded_bags(csr, num_threads)
    inside = offsets[num_front : num_front + num_rows + 1]
    assert inside.equal(rowptr)
    assert offsets[0] == 0 and offsets[-1] == rowptr[-1]
    assert offsets.diff().sum() == rowptr[-1]
    assert offsets.numel() <= 2 * (num_rows + num_threads) + 1
    assert busiest(offsets, num_threads) <= busiest(rowptr, num_threads)


@pytest.mark.parametrize('flip', [False, True])
def test_threads_share_entries(flip):
    degree = range(1, 1001)
    csr = csr_of(degree[::-1] if flip else degree)
    assert busiest(csr.rowptr, 2) > 0.74 * csr.nnz
    assert busiest(padded_bags(csr, 2)[0], 2) < 0.6 * csr.nnz
    even = csr_of([10] * 1000)
    assert padded_bags(even, 2)[0] is even.narrow.rowptr


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_padding_changes_no_bit_and_can_be_written_to(two_threads):
    row = torch.cat([torch.randint(9, (900,)), torch.arange(90)])
    col = torch.randint(70, (990,))
    matrix = SparseMatrix.from_coo(row, col, torch.randn(990), (90, 70))
    x = torch.randn(70, 16, requires_grad=True)
    out = spmm(matrix, x, backend='embedding_bag')
    offsets, _ = matrix.pattern.derive(padded_bags, 2)
    assert offsets.numel() > matrix.pattern.rowptr.numel()
    torch.set_num_threads(1)
    assert spmm(matrix, x, backend='embedding_bag').equal(out)
    (expected,) = torch.autograd.grad(2 * out.sum(), x, retain_graph=True)
    out.mul_(2)
    (grad,) = torch.autograd.grad(out.sum(), x)
    assert grad.equal(expected)
