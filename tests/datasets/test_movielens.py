import hashlib
import zipfile

import numpy as np
import pytest
import torch
import torch_geometric.transforms as T
from torch_geometric.loader.utils import filter_node_store_

from diffmm_geo.datasets import MovieLens100K
from tests.datasets.graphs import SPLITS

ITEMS = [
    '10\tToy Story\t1995\tAnimation Comedy',
    '2\tMisérables, Les\t1995\tDrama',
    '3\tToy Soldiers\tunkonwn\tDrama War',
    '1\tWar Story\t1997\tWar',
]


def table(*rows):
    return ''.join(f'{row}\n' for row in rows)


def raw_files():
    users = [f'{i}\t20\tM\tother\t0' for i in [1, 10, 2]]
    inter = [
        f'{user}\t{item}\t{rating}\t0'
        for user, item, rating in [(1, 10, 5), (1, 2, 3), (2, 1, 4), (10, 3, 2)]
    ]
    item_header = 'item_id:token\tmovie_title:token_seq'
    item_header += '\trelease_year:token\tclass:token_seq'
    inter_header = 'user_id:token\titem_id:token\trating:float\ttime:float'
    user_header = 'user_id:token\tage:token\tgender:token\tjob:token\tzip:token'
    return {
        'ml-100k.inter': table(inter_header, *inter),
        'ml-100k.item': table(item_header, *ITEMS),
        'ml-100k.user': table(user_header, *users),
    }


@pytest.fixture
def raw(tmp_path):
    (tmp_path / 'raw').mkdir()
    for name, content in raw_files().items():
        (tmp_path / 'raw' / name).write_text(content, encoding='utf-8')
    return tmp_path / 'raw'


def test_movielens(tmp_path, raw):
    dataset = MovieLens100K(tmp_path)
    assert str(dataset) == 'MovieLens100K()'
    data = dataset[0]
    data.validate()
    assert data['user'].num_nodes == 3
    assert data['item'].num_nodes == 4
    store = data['user', 'interacts', 'item']
    # In numeric order: users 1, 2, 10 and items 1, 2, 3, 10.
    assert store.edge_index.tolist() == [[0, 0, 1, 2], [1, 3, 0, 2]]
    assert data.item_title == [
        'War Story (1997)',
        'Misérables, Les (1995)',
        'Toy Soldiers',
        'Toy Story (1995)',
    ]
    assert data.item_genre[3] == 'Animation, Comedy'
    # Animation, Comedy, Drama, War:
    assert data['item'].x_genre.tolist() == [
        [0, 0, 0, 1],
        [0, 0, 1, 0],
        [0, 0, 1, 1],
        [1, 1, 0, 0],
    ]
    x = data['item'].x_text
    assert x.dtype == torch.float32 and x.isfinite().all()
    assert x[3] @ x[2] > x[1] @ x[2] + 0.1  # Toy
    assert x[3] @ x[0] > x[1] @ x[0] + 0.1  # Story


def test_titles_survive_what_pyg_does(tmp_path, raw):
    transform = T.Compose([T.ToUndirected(), T.ToUndirected(merge=False)])
    data = MovieLens100K(tmp_path, transform=transform).copy()[0].clone()
    assert data.item_title[3] == 'Toy Story (1995)'
    out = data.subgraph({'item': torch.tensor([3])})
    assert out['item'].num_nodes == 1
    assert out.item_title == data.item_title
    # What every loader does to each batch:
    filter_node_store_(data['item'], out['item'], torch.tensor([2, 3]))
    assert torch.equal(out['item'].x_genre, data['item'].x_genre[2:])


def test_order_of_files_and_random_state_do_not_matter(tmp_path, raw):
    np.random.seed(1)
    expected = MovieLens100K(tmp_path)[0]
    for path in raw.iterdir():
        header, *rows = path.read_text(encoding='utf-8').splitlines()
        content = table(header, *reversed(rows))
        path.write_text(content, encoding='utf-8')
    np.random.seed(2)
    data = MovieLens100K(tmp_path, force_reload=True)[0]
    assert data.item_title == expected.item_title
    for store, other in zip(data.node_stores, expected.node_stores):
        for key, x in other.items():
            assert torch.equal(torch.as_tensor(store[key]), torch.as_tensor(x))
    store = data['user', 'interacts', 'item']
    for key, x in expected['user', 'interacts', 'item'].items():
        assert torch.equal(store[key], x)


@pytest.mark.parametrize(
    'name, old, new, match',
    [
        ('inter', 'item_id:token', 'x', "inter.*'item_id'"),
        ('inter', '1\t10\t5', '1\t11\t5', 'expected IDs of.*item.*got 11'),
        ('inter', '1\t10\t5', '7\t10\t5', 'expected IDs of.*user.*got 7'),
        ('inter', '1\t10\t5', '1\tx\t5', "#1: Row #2.*value 'x'"),
        ('item', '\tWar\n', '\n', 'ml-100k.item.*Row #5'),
    ],
)
def test_invalid_raw_file(tmp_path, raw, name, old, new, match):
    path = raw / f'ml-100k.{name}'
    content = path.read_text(encoding='utf-8')
    assert old in content
    path.write_text(content.replace(old, new), encoding='utf-8')
    with pytest.raises(ValueError, match=match):
        MovieLens100K(tmp_path)
    assert list(tmp_path.glob('processed/*')) == []


def write_wheel(folder):
    folder.mkdir(exist_ok=True)
    path = folder / MovieLens100K.wheel
    with zipfile.ZipFile(path, 'w') as z:
        for name, content in raw_files().items():
            z.writestr(f'{MovieLens100K.folder}/{name}', content)
        z.writestr('recbole/__init__.py', 'raise SystemExit')
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_wheel_put_there_by_hand(tmp_path, monkeypatch):
    sha256 = write_wheel(tmp_path / 'raw')
    with pytest.raises(ValueError, match='whl.*expected SHA-256 9c994820'):
        MovieLens100K(tmp_path)
    names = [path.name for path in (tmp_path / 'raw').iterdir()]
    assert names == [MovieLens100K.wheel]
    monkeypatch.setattr(MovieLens100K, 'sha256', sha256)
    assert MovieLens100K(tmp_path)[0]['item'].num_nodes == 4
    names = {path.name for path in (tmp_path / 'raw').iterdir()}
    assert names == {MovieLens100K.wheel, *raw_files()}


def test_download_without_network(tmp_path, monkeypatch):
    monkeypatch.setenv('PIP_NO_INDEX', '1')
    monkeypatch.setenv('PIP_FIND_LINKS', str(tmp_path))
    with pytest.raises(ConnectionError) as error:
        MovieLens100K(tmp_path)
    for part in [MovieLens100K.wheel, 'recbole==1.2.1', str(tmp_path / 'raw')]:
        assert part in str(error.value)
    assert list((tmp_path / 'raw').iterdir()) == []


@pytest.mark.network
def test_published_files(tmp_path, monkeypatch):
    monkeypatch.setenv('PIP_RETRIES', '1')
    monkeypatch.setenv('PIP_DEFAULT_TIMEOUT', '30')
    try:
        data = MovieLens100K(tmp_path)[0]
    except ConnectionError as error:
        pytest.skip(f'pip cannot get the wheel: {error}')
    data.validate()
    assert data['user'].num_nodes == 943
    assert data['item'].num_nodes == 1682
    assert data['item'].x_text.size() == (1682, 64)
    assert data['item'].x_genre.size() == (1682, 19)
    assert data.item_title[0] == 'Toy Story (1995)'
    store = data['user', 'interacts', 'item']
    splits = [store[key] for key in SPLITS]
    assert [split.size(1) for split in splits] == [79926, 10037, 10037]
    key = torch.cat([user * 1682 + item for user, item in splits])
    assert key.unique().numel() == 100000
    assert store.edge_index[0].unique().numel() == 943
