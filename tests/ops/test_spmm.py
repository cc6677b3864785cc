import sys

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.testing import assert_close
from torch_geometric import EdgeIndex

from diffmm_geo.ops.spmm import (
    BACKENDS,
    available_backends,
    backend,
    default_backend,
    spmm,
)
from diffmm_geo.ops.spmm.sddmm import csr_tensor, sddmm, sddmm_blockwise
from diffmm_geo.sparse import CSR, SparseMatrix

# One number of channels for each shape of the blocks of a kernel.
WIDE = st.sampled_from([64, 100, 192, 256, 300])


def random_matrix(num_rows, num_cols, num_entries, dtype=torch.double):
    # This includes duplicates and empty rows.
    return SparseMatrix.from_coo(
        torch.randint(num_rows, (num_entries,)),
        torch.randint(num_cols, (num_entries,)),
        torch.randn(num_entries, dtype=dtype),
        (num_rows, num_cols),
    )


def dense(matrix):
    out = matrix.value.new_zeros(matrix.size)
    index = matrix.pattern.row, matrix.pattern.col
    return out.index_put(index, matrix.value, accumulate=True)


def forward_and_backward(matrix, x, weight, transposed=False, **kwargs):
    value = matrix.value.clone().requires_grad_()
    x, matrix = x.clone().requires_grad_(), matrix.set_value(value)
    out = spmm(matrix.t() if transposed else matrix, x, **kwargs)
    return out, *torch.autograd.grad((out * weight).sum(), [value, x])


@settings(
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    size=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    entries=st.integers(0, 30),
    giant_row=st.integers(0, 200),
    channels=st.integers(1, 40) | WIDE,
    strided=st.booleans(),
    transposed=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_backend_is_the_dense_product(
    name, size, entries, giant_row, channels, strided, transposed, seed
):
    torch.manual_seed(seed)
    # This includes duplicates and empty rows.
    row = torch.randint(size[0], (entries,))
    row = torch.cat([row, row.new_full((giant_row,), size[0] - 1)])
    col = torch.randint(size[1], row.size())
    value = torch.randn(row.size(), dtype=torch.double)
    matrix = SparseMatrix.from_coo(row, col, value, size)
    full, (row, col) = dense(matrix), (matrix.pattern.row, matrix.pattern.col)
    if transposed:
        full, row, col = full.t(), col, row
        assert matrix.t().size == tuple(full.size())
        assert_close(dense(matrix.t()), full)
    x = torch.randn(full.size(1), channels).double()
    weight = torch.randn(full.size(0), channels).double()
    if strided:
        x, weight = x.t().contiguous().t(), weight.t().contiguous().t()

    args = matrix, x, weight, transposed
    got = forward_and_backward(*args, backend=name)
    expected = full @ x, (weight @ x.t())[row, col], full.t() @ weight
    assert_close(got, expected)


@pytest.mark.parametrize('dtype', [torch.float, torch.double, torch.half])
def test_unweighted(name, dtype):
    row, col = torch.randint(5, (100,)), torch.randint(7, (100,))
    matrix = SparseMatrix.from_coo(row, col, None, (5, 7))
    ones = SparseMatrix.from_coo(row, col, torch.ones(100), (5, 7))
    assert matrix.value is None and matrix.t().value_t is None
    assert matrix.to(dtype=torch.half).value is None
    full = dense(ones).double()
    x = torch.randn(7, 3).to(dtype).requires_grad_()
    weight = torch.randn(5, 3).to(dtype)
    out = spmm(matrix, x, backend=name)
    (out * weight).sum().backward()
    tolerance = {'rtol': 1e-3, 'atol': 1e-2} if dtype == torch.half else {}
    assert_close(out, (full @ x.detach().double()).to(dtype), **tolerance)
    expected = (full.t() @ weight.double()).to(dtype)
    assert_close(x.grad, expected, **tolerance)


def test_csr_tensors_have_narrow_indices():
    pattern = random_matrix(5, 7, 60).pattern
    for size, dtype in (((5, 7), torch.int32), ((5, 2**31), torch.int64)):
        csr = CSR(pattern.rowptr, pattern.col, size)
        matrix = csr_tensor(csr, torch.ones(60))
        assert matrix.crow_indices().dtype == dtype
        assert matrix.col_indices().dtype == dtype


def test_values_of_another_type(name):
    matrix = random_matrix(5, 7, 60)
    value = matrix.value.float().requires_grad_()
    x, weight = torch.randn(7, 4).half(), torch.randn(5, 4).half()
    out = spmm(matrix.set_value(value), x, backend=name)
    (grad,) = torch.autograd.grad((out * weight).sum(), value)
    assert out.dtype == torch.half and grad.dtype == torch.float
    full = dense(matrix).float() @ x.float()
    assert_close(out.float(), full, rtol=1e-3, atol=1e-2)
    expected = (weight.float() @ x.float().t())[
        matrix.pattern.row, matrix.pattern.col
    ]
    assert_close(grad, expected)


def test_values_in_blocks(monkeypatch):
    pattern, a, b = random_matrix(5, 7, 20).pattern, *torch.randn(2, 7, 3)
    expected = sddmm(pattern, a[:5], b)
    monkeypatch.setattr(sys.modules[sddmm.__module__], 'BLOCK_SIZE', 9)
    assert_close(sddmm_blockwise(pattern, a[:5], b), expected)


def test_backend_is_chosen_by_argument_then_context(monkeypatch):
    used = []
    for name, b in BACKENDS.items():
        monkeypatch.setattr(
            b, 'matmul', lambda p, v, x, n=name: used.append(n) or x[:4]
        )
    matrix, x = random_matrix(4, 6, 15), torch.randn(6, 2).double()
    spmm(matrix, x)
    with backend('naive'):
        with backend('edge_index'):
            spmm(matrix, x)
        spmm(matrix, x, backend='torch_csr')
        spmm(matrix, x)
    spmm(matrix, x)
    expected = ['torch_csr', 'edge_index', 'torch_csr', 'naive', 'torch_csr']
    assert used == expected


def test_backward_uses_the_backend_of_forward(monkeypatch):
    matrix = random_matrix(4, 6, 15)
    x = torch.randn(6, 2).double().requires_grad_()
    with backend('naive'):
        out = spmm(matrix, x)
    monkeypatch.delattr(type(BACKENDS['torch_csr']), 'matmul')
    out.sum().backward()
    assert_close(x.grad, dense(matrix).sum(0).view(-1, 1).expand(-1, 2))


def test_unknown_or_missing_backend(monkeypatch):
    matrix, x = random_matrix(4, 6, 15), torch.randn(6, 2).double()
    with pytest.raises(ValueError, match="'backend' .* 'cublas'"):
        spmm(matrix, x, backend='cublas')
    with pytest.raises(ValueError, match="'backend' .* 'cublas'"):
        with backend('cublas'):
            pass
    monkeypatch.setattr('torch_geometric.typing.WITH_TORCH_SPARSE', False)
    assert 'torch_sparse' not in available_backends()
    with pytest.raises(ValueError, match="available on 'cpu'"):
        spmm(matrix, x, backend='torch_sparse')
    assert default_backend('cuda') == 'torch_csr'
    assert default_backend('cpu', torch.double) == 'torch_csr'
    engines = torch.backends.quantized.supported_engines
    fast = 'embedding_bag' if 'fbgemm' in engines else 'torch_csr'
    for dtype in (torch.float, torch.half, torch.bfloat16):
        assert default_backend('cpu', dtype) == fast


def test_values_of_the_transpose_keep_their_history():
    matrix = random_matrix(5, 7, 20)
    value = torch.randn(20).double().requires_grad_()
    matrix = matrix.set_value(value)
    x, y = torch.randn(7, 3).double().requires_grad_(), torch.randn(5, 3)
    # Either the backward pass or inference computes them first.
    spmm(matrix, x).sum().backward()
    assert_close(x.grad, dense(matrix).sum(0).view(-1, 1).expand(-1, 3))
    with torch.inference_mode():
        other = matrix.set_value(value)
        assert_close(
            spmm(other.t(), y.double()), dense(matrix).t() @ y.double()
        )
    for m in (matrix, other):
        (grad,) = torch.autograd.grad(spmm(m.t(), y.double()).sum(), value)
        assert_close(grad, y.double().sum(1)[matrix.pattern.row])


@pytest.mark.parametrize('check_invariants', [False, True])
def test_from_coo_of_an_edge_index(name, check_invariants):
    index = torch.tensor([[0, 1, 3], [2, 4, 0]])
    value, x, size = torch.rand(3), torch.rand(5, 2), (4, 5)
    edge_index = EdgeIndex(index, sparse_size=size, sort_order='row')
    expected = SparseMatrix.from_coo(*index, value, size)
    matrix = SparseMatrix.from_coo(
        *(edge_index[0], edge_index[1], value, size),
        check_invariants=check_invariants,
    )
    got, expected = (
        forward_and_backward(m, x, torch.ones(4, 2), backend=name)
        for m in (matrix, expected)
    )
    assert_close(got, expected)
    for coalesce in (False, True):
        csr = CSR.from_edge_index(edge_index, size, coalesce=coalesce)
        for pattern in (csr, matrix.pattern, matrix.pattern_t):
            assert type(pattern.rowptr) is type(pattern.col) is torch.Tensor


def test_leading_dimensions():
    matrix = random_matrix(4, 6, 15)
    x = torch.randn(2, 3, 6, 5).double()
    assert_close(spmm(matrix, x), dense(matrix) @ x)


@pytest.mark.parametrize(
    ('size', 'entries', 'channels'),
    [((0, 3), 0, 2), ((3, 0), 0, 2), ((3, 3), 0, 2), ((5, 7), 20, 0)],
)
def test_sums_of_nothing(name, size, entries, channels):
    value = torch.randn(entries)
    row, col = (torch.arange(entries) % max(n, 1) for n in size)
    matrix = SparseMatrix.from_coo(row, col, value, size)
    x, weight = torch.randn(size[1], channels), torch.ones(size[0], channels)
    out = forward_and_backward(matrix, x, weight, backend=name)
    assert [y.size() for y in out] == [weight.size(), value.size(), x.size()]
    assert not any(y.any() for y in out)


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_half_precision_sums_in_float(name, dtype):
    # In half precision, a sum of ones stops growing below 4096.
    entries = 4096
    row = torch.zeros(entries, dtype=torch.long)
    matrix = SparseMatrix.from_coo(
        row, torch.arange(entries), torch.ones(entries), (1, entries)
    )
    x = torch.ones(entries, 3, dtype=dtype, requires_grad=True)
    out = spmm(matrix, x, backend=name)
    assert out.equal(torch.full((1, 3), 4096, dtype=dtype))
    out.sum().backward()
    assert x.grad.equal(torch.ones_like(x))
