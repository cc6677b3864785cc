import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from diffmm_geo.ops.spmm import SparseMatrix, spmm, spmm_naive


def random_matrix(num_rows, num_cols, num_entries, dtype=torch.double):
    # Duplicates and empty rows come by themselves.
    return SparseMatrix.from_coo(
        torch.randint(num_rows, (num_entries,)),
        torch.randint(num_cols, (num_entries,)),
        torch.randn(num_entries, dtype=dtype),
        (num_rows, num_cols),
    )


def dense(matrix):
    out = matrix.value.new_zeros(matrix.size)
    return out.index_put(
        (matrix.row, matrix.col), matrix.value, accumulate=True
    )


@settings(deadline=None, max_examples=50)
@given(
    st.integers(1, 8),
    st.integers(1, 8),
    st.integers(0, 30),
    st.integers(1, 4),
    st.integers(0, 2**16),
)
def test_spmm_agrees_with_naive(num_rows, num_cols, entries, channels, seed):
    torch.manual_seed(seed)
    matrix = random_matrix(num_rows, num_cols, entries)
    x = torch.randn(num_cols, channels).double().requires_grad_()
    weight = torch.randn(num_rows, channels).double()

    out, expected = spmm(matrix, x), spmm_naive(matrix, x)
    assert_close(out, expected)
    assert_close(out, dense(matrix) @ x)
    (grad,) = torch.autograd.grad((out * weight).sum(), x)
    (expected_grad,) = torch.autograd.grad((expected * weight).sum(), x)
    assert_close(grad, expected_grad)


def test_transpose():
    matrix = random_matrix(5, 7, 20)
    assert matrix.t().size == (7, 5)
    assert_close(dense(matrix.t()), dense(matrix).t())
    assert_close(dense(matrix.t().t()), dense(matrix))
    x = torch.randn(5, 3).double()
    assert_close(spmm(matrix.t(), x), dense(matrix).t() @ x)


def test_set_value_reaches_both_directions():
    matrix = random_matrix(5, 7, 20).set_value(torch.randn(20).double())
    for m in (matrix, matrix.t(), matrix.t().set_value(matrix.value_t)):
        x = torch.randn(m.size[1], 2).double().requires_grad_()
        out = spmm(m, x)
        assert_close(out, dense(m) @ x)
        out.sum().backward()
        assert_close(x.grad, dense(m).sum(0).view(-1, 1).expand(-1, 2))


def test_from_coo_of_large_size_sorts_alike(monkeypatch):
    module = sys.modules['diffmm_geo.ops.spmm.sparse_matrix']
    row, col = torch.randint(6, (30,)), torch.randint(5, (30,))
    value = torch.randn(30)
    expected = SparseMatrix.from_coo(row, col, value, (6, 5))
    order = module._lexsort(row, col, (2**40, 2**40))
    assert order.equal(module._lexsort(row, col, (6, 5)))
    assert expected.value.equal(value[order])


def test_leading_dimensions():
    matrix = random_matrix(4, 6, 15)
    x = torch.randn(2, 3, 6, 5).double()
    out = spmm(matrix, x)
    assert out.size() == (2, 3, 4, 5)
    for i in range(2):
        for j in range(3):
            assert_close(out[i, j], spmm(matrix, x[i, j]))


def test_non_contiguous_operand_and_gradient():
    matrix = random_matrix(4, 6, 15)
    x = torch.randn(5, 6).double().t().requires_grad_()
    weight = torch.randn(5, 4).double()
    (spmm(matrix, x).t() * weight).sum().backward()
    assert_close(x.grad, dense(matrix).t() @ weight.t())


@pytest.mark.parametrize('size', [(0, 3), (3, 0), (3, 3)])
def test_no_entries(size):
    none = torch.empty(0, dtype=torch.long)
    matrix = SparseMatrix.from_coo(none, none, torch.empty(0), size)
    x = torch.randn(size[1], 2, requires_grad=True)
    out = spmm(matrix, x)
    assert out.equal(torch.zeros(size[0], 2))
    out.sum().backward()
    assert x.grad.equal(torch.zeros(size[1], 2))


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_half_precision(dtype):
    matrix = random_matrix(4, 6, 15, torch.float)
    x = torch.randn(6, 3)
    out = spmm(matrix, x.to(dtype))
    assert out.dtype == dtype
    assert_close(out.float(), spmm(matrix, x), rtol=5e-2, atol=5e-2)


def test_wrong_rows():
    with pytest.raises(ValueError, match="'x' needs 6 rows"):
        spmm(random_matrix(4, 6, 15), torch.randn(5, 3))


def test_repr():
    assert str(random_matrix(4, 6, 15)) == 'SparseMatrix(size=(4, 6), nnz=15)'
