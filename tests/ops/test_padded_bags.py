import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffmm_geo.ops.spmm import SparseMatrix, spmm
from diffmm_geo.ops.spmm.padded_bags import PaddedBags


def busiest(offsets, num_threads):
    num_bags = offsets.numel() - 1
    share = -(-num_bags // num_threads)
    border = (torch.arange(num_threads + 1) * share).clamp(max=num_bags)
    return int(offsets[border].diff().max())


@given(
    degree=st.lists(st.integers(0, 50), max_size=60),
    num_threads=st.integers(1, 9),
)
def test_rows_are_where_they_should_be(degree, num_threads):
    rowptr = torch.tensor([0, *degree]).cumsum(0)
    bags = PaddedBags.from_rowptr(rowptr, num_threads)
    num_rows, offsets = len(degree), bags.offsets
    inside = offsets[bags.num_front : bags.num_front + num_rows + 1]
    assert inside.equal(rowptr)
    assert offsets[0] == 0 and offsets[-1] == rowptr[-1]
    assert offsets.diff().sum() == rowptr[-1]
    assert offsets.numel() <= 2 * (num_rows + num_threads) + 1
    assert busiest(offsets, num_threads) <= busiest(rowptr, num_threads)


@pytest.mark.parametrize('flip', [False, True])
def test_threads_share_entries(flip):
    degree = torch.arange(1, 1001)
    degree = degree.flip(0) if flip else degree
    rowptr = torch.cat([degree.new_zeros(1), degree.cumsum(0)])
    bags = PaddedBags.from_rowptr(rowptr, 2)
    assert busiest(rowptr, 2) > 0.74 * rowptr[-1]
    assert busiest(bags.offsets, 2) < 0.6 * rowptr[-1]
    assert PaddedBags.from_rowptr(rowptr, 1).offsets is rowptr
    even = torch.arange(1001) * 10
    assert PaddedBags.from_rowptr(even, 2).offsets is even


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
    bags = matrix.pattern.padded_bags(2)
    assert bags.offsets.numel() > matrix.pattern.rowptr.numel()
    assert matrix.pattern.padded_bags(2) is bags
    torch.set_num_threads(1)
    assert spmm(matrix, x, backend='embedding_bag').equal(out)
    (expected,) = torch.autograd.grad(2 * out.sum(), x, retain_graph=True)
    out.mul_(2)
    (grad,) = torch.autograd.grad(out.sum(), x)
    assert grad.equal(expected)
