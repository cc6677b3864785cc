import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from examples.ensemble.random_walk import random_walk

U, I = 12, 10
USERS = torch.arange(U)


def distribution(mass, popularity):
    total = mass.sum(dim=1, keepdim=True)
    return torch.where(total > 1e-12, mass / total.clamp(min=1e-12), popularity)


def reference(x, weights=(1, 3), a=1.0, b=0.25, c=0.02, graphs=(), d=0.0):
    r"""The walk with all pairs of items in double precision."""
    popularity = x.sum(dim=0) + 0.1
    popularity = popularity / popularity.sum()
    degree = x.sum(dim=1).clamp(min=1) ** a
    step = x.t() @ (x / degree.view(-1, 1))
    step = step.fill_diagonal_(0.0) / (
        x.sum(dim=0).clamp(min=1).view(-1, 1) ** b
    )
    mass, out = x, torch.zeros_like(x)
    for weight in weights:
        mass = mass @ step
        out += weight / sum(weights) * distribution(mass, popularity)
    out = (1 - c - d) * out + c * popularity
    for graph in graphs:
        out += d / len(graphs) * distribution(x @ graph, popularity)
    return out


@pytest.mark.parametrize(
    ('weights', 'a', 'b', 'c'),
    [
        ((1, 3), 1.0, 0.25, 0.02),
        ((1,), 1.0, 0.25, 0.3),
        ((0, 0.5, 2), 0.5, 0.0, 0.02),
        ((1, 3), 0.0, 1.0, 0.02),
        ((1, 3), 1.0, 0.25, 1.0),
    ],
)
def test_walk(interactions, weights, a, b, c):
    edge_index, x = interactions
    scorer = random_walk(edge_index, U, I, weights, a, b, c)
    expected = reference(x, weights, a, b, c)
    assert_close(scorer(USERS).double(), expected, rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), max_size=20))
def test_any_graph(pairs):
    r"""Users and items of few interactions, and disconnected ones."""
    edge_index = torch.tensor(pairs, dtype=torch.long).view(-1, 2).t()
    x = torch.zeros(5, 6).double()
    x[edge_index[0], edge_index[1]] = 1.0
    score = random_walk(edge_index, 5, 6)(torch.arange(5))
    assert_close(score.double(), reference(x), rtol=1e-4, atol=1e-4)


def test_item_graphs(interactions):
    edge_index, x = interactions
    # The last item has no interactions, but neighbors.
    image = torch.tensor([[0, 0, 3, I - 1], [2, 2, 0, 1]])
    text = torch.tensor([[1, 4], [I - 1, I - 1]])
    graphs = []
    for edges in (image, text):
        graph = torch.zeros(I, I).double()
        graph[edges[0], edges[1]] = 1.0
        graphs.append(graph + graph.t())
    kwargs = {'item_graphs': {'image': image, 'text': text}}
    score = random_walk(edge_index, U, I, item_graph_weight=0.2, **kwargs)(
        USERS
    )
    expected = reference(x, graphs=graphs, d=0.2)
    assert_close(score.double(), expected, rtol=1e-5, atol=1e-5)
    alone = random_walk(edge_index, U, I)(USERS)
    # Without graphs, their weight does not matter.
    other = random_walk(edge_index, U, I, item_graph_weight=0.5)
    assert other(USERS).equal(alone)


@pytest.mark.parametrize('exponent', [0.25, 0.7])
def test_rounding_errors_are_no_mass(exponent):
    r"""Users who share their only item reach nothing."""
    for n in range(2, 60):
        edge_index = torch.stack([torch.arange(n), torch.zeros(n).long()])
        walk = random_walk(edge_index, n, 3, popularity_exponent=exponent)
        popularity = torch.tensor([n + 0.1, 0.1, 0.1])
        expected = popularity / popularity.sum()
        score = walk(torch.tensor([0]))[0]
        assert_close(score, expected, rtol=1e-4, atol=1e-4)
