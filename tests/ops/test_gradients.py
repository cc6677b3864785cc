r"""Derivatives of all operations, against finite differences."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from diffmm_geo.nn import info_nce
from diffmm_geo.ops import backend, propagate, spmm
from diffmm_geo.ops.dense import gram, product, unit_rows
from diffmm_geo.ops.diffused_linear import (
    diffused_linear_gram,
    diffused_linear_shared,
)
from diffmm_geo.ops.multinomial import multinomial, multinomial_naive
from diffmm_geo.ops.reconstruction import (
    DenseSquare,
    GramSquare,
    SampledSquare,
    reconstruction,
    reconstruction_naive,
)
from diffmm_geo.ops.row_linear import row_linear
from diffmm_geo.sparse import CSR, BipartiteAdj

LISTS = CSR.from_edge_index(torch.tensor([[0, 0, 2], [1, 3, 0]]), (3, 4))
EDGES = torch.tensor([[0, 0, 1, 3, 3], [1, 4, 0, 2, 2]])
ADJ = BipartiteAdj.from_adj(EDGES, (4, 5), True, torch.double, prepare=True)
FEATURE = torch.linspace(-1, 1, 8).double().view(4, 2)
SCALE = torch.tensor([0.3, 0.8, 0.5]).double()
INDEX = torch.tensor([0, 2, 2, 3])


def of_spmm(name):
    return lambda value, x: spmm(ADJ.to_user.set_value(value), x, name).pow(2)


def of_propagate(name, trained=False):
    def function(x_user, x_item, *values):
        adj = ADJ
        if trained:
            adj = BipartiteAdj(
                ADJ.to_user.set_value(values[0]),
                ADJ.to_item.set_value(values[1]),
                None,
                *values[2:],
            )
        return tuple(x.pow(2) for x in propagate(adj, x_user, x_item, name))

    return function


def of_info_nce(name='blockwise', *args, temperature=0.5):
    def function(anchor, candidate):
        with backend('naive' if name == 'naive' else 'torch_csr'):
            return info_nce(
                anchor, candidate, INDEX, temperature, *args
            ).square()

    return function


def of_lists(function, *args):
    return lambda weight: function(LISTS, weight, SCALE, SCALE, *args).pow(2)


def of_last_layer(function, *args):
    return lambda h, weight, bias: function(
        h, weight, bias, LISTS, FEATURE, *args
    )


SPMM, STEP = [(5,), (5, 3)], [(4, 2), (5, 2)]
VIEWS, LAYER = [(4, 3), (4, 3)], [(3, 2), (4, 2), (4,)]
FAST = {
    'spmm': (of_spmm('torch_csr'), SPMM),
    'propagate': (of_propagate('torch_csr'), STEP),
    'propagate, trained': (
        of_propagate('torch_csr', True),
        [*STEP, (5,), (5,), (4,), (5,)],
    ),
    'info_nce': (of_info_nce(), VIEWS),
    'info_nce, cold': (of_info_nce(temperature=0.02), VIEWS),
    'info_nce, drawn': (of_info_nce('blockwise', 3), VIEWS),
    'shared noise': (of_lists(diffused_linear_shared, 0.3, 2), [(4, 2)]),
    'normal noise': (of_lists(diffused_linear_gram, 0.3), [(4, 2)]),
    'dense': (of_last_layer(reconstruction, DenseSquare()), LAYER),
    'gram form': (of_last_layer(reconstruction, GramSquare()), LAYER),
    'sampled': (of_last_layer(reconstruction, SampledSquare(SCALE, 5)), LAYER),
    'multinomial': (of_last_layer(multinomial), LAYER),
    'gram': (lambda w: gram(w).pow(2), [(4, 2)]),
    'product': (lambda a, b: product(a, b).pow(2), [(3, 4), (4, 2)]),
    'row_linear': (
        lambda w, b: row_linear(FEATURE.float(), w, b).pow(2),
        [(3, 2), (3,)],
    ),
}
NAIVE = {
    'spmm': (of_spmm('naive'), SPMM),
    'propagate': (of_propagate('naive'), STEP),
    'propagate, trained': (
        of_propagate('naive', True),
        [*STEP, (5,), (5,), (4,), (5,)],
    ),
    'info_nce': (of_info_nce('naive'), VIEWS),
    'reconstruction': (of_last_layer(reconstruction_naive), LAYER),
    'multinomial': (of_last_layer(multinomial_naive), LAYER),
    'unit_rows': (unit_rows, [(2, 3, 4)]),
}


def seeded(function):
    def out(*inputs):
        torch.manual_seed(1)
        return function(*inputs)

    return out


def make(sizes):
    return [torch.randn(s).double().requires_grad_() for s in sizes]


@pytest.mark.parametrize('case', FAST)
def test_fast_form(case):
    function, sizes = FAST[case]
    function, inputs = seeded(function), make(sizes)
    assert gradcheck(function, inputs)
    out = function(*inputs)
    out = out if isinstance(out, torch.Tensor) else sum(x.sum() for x in out)
    with pytest.raises(RuntimeError, match='no second derivative'):
        torch.autograd.grad(out.sum(), inputs, create_graph=True)


@pytest.mark.parametrize('case', NAIVE)
def test_naive_form(case):
    function, sizes = NAIVE[case]
    inputs = make(sizes)
    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs)


def test_gradient_of_a_view_with_itself():
    # The anchor is the candidates, or a function of them.
    assert gradcheck(lambda x: info_nce(x, x, INDEX), make([(4, 3)]))
    assert gradcheck(
        lambda x: info_nce(x.sin(), x.sin().exp(), INDEX), make([(4, 3)])
    )
