import pytest
import torch

from benchmarks.graphs import check_name, load_graph, main, power_law, to_data


@pytest.mark.parametrize('size', [(1000, 500, 10_000), (50, 2000, 300)])
def test_power_law_is_what_was_asked_for(size):
    edge_index = power_law(*size)
    users, items, edges = size
    assert edge_index.size() == (2, edges)
    assert edge_index.unique(dim=1).size(1) == edges
    assert edge_index.min() >= 0
    assert edge_index[0].unique().numel() == users
    assert edge_index[1].max() < items
    assert bool((edge_index[0].diff() >= 0).all())


def test_power_law_is_seeded():
    a, b = (power_law(200, 100, 2000, seed=1) for _ in range(2))
    assert torch.equal(a, b)
    assert not torch.equal(a, power_law(200, 100, 2000, seed=2))


def test_power_law_has_popular_items_and_many_others():
    _, item = power_law(20_000, 10_000, 200_000)
    degree = torch.bincount(item, minlength=10_000).sort(descending=True)
    degree = degree.values.double()
    # Ranks r and 10 r differ by about 10^exponent.
    for rank in (10, 100):
        assert 3 < degree[rank] / degree[10 * rank] < 8
    assert degree[0] > 50 * degree.median() > 0
    # Popular items are anywhere.
    top = torch.bincount(item).topk(20).indices
    assert 2000 < top.double().mean() < 8000


@pytest.mark.parametrize('size', [(10, 10, 5), (10, 10, 26)])
def test_power_law_refuses_what_it_cannot_make(size):
    with pytest.raises(ValueError, match='edges need to be between'):
        power_law(*size)


def test_names(tmp_path):
    graph = load_graph('power-1e3', tmp_path)
    size = graph.num_users, graph.num_items, graph.num_edges
    assert size == (100, 50, 1000)
    assert check_name('power-1e8') == 'power-1e8'
    for name in ('power-', 'power-1ex', 'power-3x4', 'tictok'):
        with pytest.raises(ValueError, match='choose from tiktok'):
            check_name(name)


def test_held_out_edges_are_no_others(tmp_path):
    graph = load_graph('power-300x200x2000', tmp_path)
    data = to_data(graph, channels=4)
    store = data['user', 'interacts', 'item']
    names = 'edge_index', 'val_edge_label_index', 'test_edge_label_index'
    parts = [store[name] for name in names]
    assert parts[1].size(1) == parts[2].size(1) > 100
    both = torch.cat(parts, dim=1)
    assert torch.equal(both.unique(dim=1), graph.edge_index)
    assert data['item'].x_image.size() == (200, 4)


def test_a_graph_that_was_made_beforehand_is_read(tmp_path):
    expected = load_graph('power-300x200x2000', tmp_path).edge_index
    main(str(tmp_path), 'power-300x200x2000')
    (path,) = tmp_path.iterdir()
    assert load_graph('power-300x200x2000', tmp_path).edge_index.equal(expected)
    path.write_bytes(b'')
    with pytest.raises(EOFError):
        load_graph('power-300x200x2000', tmp_path)
