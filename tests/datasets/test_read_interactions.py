import copy
import gzip
import pickle

import numpy as np
import pytest
import torch
import torch_geometric.transforms as T
from torch_geometric.data import Batch, HeteroData
from torch_geometric.loader import LinkNeighborLoader, NeighborLoader

from diffmm_geo.datasets import RawIds, read_interactions, split_interactions
from diffmm_geo.recommender import Recommender

OBSERVED = ('user', 'interacts', 'item')
ROWS = [
    ('ann', 'tea, green', 30),
    ('bob', 'mug', 10),
    ('ann', 'mug', 20),
    ('ann', 'tea, green', 5),
    ('çem', '007', 40),
]
# With types, as in RecBole.
ATOMIC = ('user_id:token', 'item_id:token', 'time:float')


def table(delimiter=',', header=('user', 'item', 'time'), quote='"'):
    rows = [
        [f'{quote}{user}{quote}', f'{quote}{item}{quote}', str(time)]
        for user, item, time in ROWS
    ]
    lines = [header, *rows] if header else rows
    return ''.join(f'{delimiter.join(line)}\n' for line in lines).encode()


def pairs(data, name='edge_index'):
    user, item = data[OBSERVED][name].tolist()
    users, items = data['user'].raw_id, data['item'].raw_id
    return [(users[u], items[i]) for u, i in zip(user, item)]


def check(data, with_time=True):
    assert data['user'].raw_id == ['ann', 'bob', 'çem']
    assert data['item'].raw_id == ['tea, green', 'mug', '007']
    assert (data['user'].num_nodes, data['item'].num_nodes) == (3, 3)
    assert pairs(data) == [
        ('ann', 'tea, green'),
        ('ann', 'mug'),
        ('bob', 'mug'),
        ('çem', '007'),
    ]
    if with_time:
        assert data[OBSERVED].time.tolist() == [5, 20, 10, 40]
    assert data.validate()


@pytest.mark.parametrize(
    ('content', 'kwargs'),
    [
        (table(), {}),
        (b'\xef\xbb\xbf' + table(), {}),
        (table().replace(b'\n', b'\r\n'), {}),
        (table('\t', quote=''), {}),
        (table(';'), {'delimiter': ';'}),
        (table(header=None), {'header': False, 'time': 2}),
        (table('\t', ATOMIC, ''), {'user': 'user_id', 'item': 'item_id'}),
        (table('\t', ATOMIC, ''), {}),
        (table(header=('userId', 'Item ID', 'time')), {}),
        (
            table(header=('who', 'what', 'when')),
            {'user': 'who', 'item': 'what', 'time': 'when'},
        ),
        (gzip.compress(table(), mtime=0), {}),
    ],
)
def test_tables(tmp_path, content, kwargs):
    path = tmp_path / 'clicks.csv'
    path.write_bytes(content)
    check(read_interactions(path, **{'time': 'time', **kwargs}))


def test_other_order_of_columns_and_no_time(tmp_path):
    path = tmp_path / 'clicks.csv.gz'
    lines = ['rating,item,x,user']
    lines += [f'1.5,"{item}",,{user}' for user, item, _ in ROWS]
    path.write_bytes(gzip.compress('\n'.join(lines).encode()))
    data = read_interactions(path)
    check(data, with_time=False)
    assert 'time' not in data[OBSERVED]


@pytest.mark.parametrize(
    ('times', 'expected'),
    [
        (('1.5', '3'), [1.5, 3.0]),
        (('2024-01-01', '2024-01-02'), [1704067200e9, 1704153600e9]),
        (
            ('2024-01-01 00:00:01', '2024-01-01 00:00:02'),
            [1704067201e9, 1704067202e9],
        ),
    ],
)
def test_times(tmp_path, times, expected):
    path = tmp_path / 'clicks.csv'
    rows = ''.join(f'ann,{n},{time}\n' for n, time in enumerate(times))
    path.write_text(f'user,item,at\n{rows}')
    data = read_interactions(path, time='at')
    assert data[OBSERVED].time.tolist() == expected


def test_lists(tmp_path):
    r"""As in LightGCN, with ids that held-out files add."""
    train, test = tmp_path / 'train.txt', tmp_path / 'test.txt'
    train.write_text('7 3 10 2\n8 \n\n9 3 3\n')
    test.write_text('8 2 11\n12 3\n')
    data = read_interactions(train, lists=True, test=test)
    assert data['user'].raw_id == ['7', '8', '9', '12']
    assert data['item'].raw_id == ['3', '10', '2', '11']
    expected = [('7', '3'), ('7', '10'), ('7', '2'), ('9', '3')]
    assert pairs(data) == expected
    expected = [('8', '2'), ('8', '11'), ('12', '3')]
    assert pairs(data, 'test_edge_label_index') == expected
    assert 'val_edge_label_index' not in data[OBSERVED]

    train.write_bytes(gzip.compress(train.read_bytes()))
    assert pairs(read_interactions(train, lists=True)) == pairs(data)


def test_files_of_each_split(tmp_path):
    paths = [tmp_path / f'{name}.tsv' for name in ('train', 'val', 'test')]
    for n, path in enumerate(paths):
        path.write_text(f'user\titem\nann\t{n}\nbob{n}\t5\n')
    data = read_interactions(paths[0], val=paths[1], test=paths[2])
    assert pairs(data) == [('ann', '0'), ('bob0', '5')]
    assert pairs(data, 'val_edge_label_index') == [('ann', '1'), ('bob1', '5')]
    assert pairs(data, 'test_edge_label_index') == [('ann', '2'), ('bob2', '5')]


@pytest.mark.parametrize(
    ('content', 'kwargs', 'expected'),
    [
        (b'user,item\n', {}, 'clicks.csv.*training interactions, got none'),
        (b'who,item\na,b\n', {}, "clicks.csv.*columns .*'who', 'item'"),
        (b'user,item\na,b\na\n', {}, 'clicks.csv.*[Rr]ow #3'),
        (b'user,item\na,\n', {}, "clicks.csv.*an empty 'item'"),
        (b'user,item\na,\xff\n', {}, 'clicks.csv.*UTF'),
        (b'user,user_id,item\na,b,c\n', {'user': 'User'}, 'columns'),
        (b'user,item\na,b\n', {'item': 0}, 'clicks.csv.*one column'),
        (b'user,item,t\na,b,c\n', {'time': 't'}, 'clicks.csv.*of type string'),
        (b'user,item,t\na,b,nan\n', {'time': 't'}, 'clicks.csv.*finite'),
        (b'a,b\n', {'header': False, 'user': 'who'}, "'user' needs"),
        (b'a,b\n', {'delimiter': '::'}, "'delimiter' needs"),
        (b'\x1f\x8b damaged', {}, 'clicks.csv.*a table'),
        (b'a b\n', {'lists': True, 'user': 0}, r"'lists' needs to be False"),
        (b'a \xff\n', {'lists': True}, 'clicks.csv.*lines of a user'),
        (b'\n\n', {'lists': True}, 'clicks.csv.*training interactions'),
    ],
)
def test_errors(tmp_path, content, kwargs, expected):
    path = tmp_path / 'clicks.csv'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=expected):
        read_interactions(path, **kwargs)


def test_many_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr('diffmm_geo.datasets._table.BLOCK_SIZE', 64)
    path = tmp_path / 'clicks.csv'
    edges = np.random.RandomState(0).randint(30, size=(400, 2)).tolist()
    rows = ''.join(f'u{u},i{i}\n' for u, i in edges)
    path.write_text(f'user,item\n{rows}')
    data = read_interactions(path)
    expected = {(f'u{u}', f'i{i}') for u, i in edges}
    assert sorted(pairs(data)) == sorted(expected)
    first = list(dict.fromkeys(f'u{u}' for u, _ in edges))
    assert data['user'].raw_id == first


@pytest.mark.parametrize(
    ('loader', 'num_workers'),
    [(NeighborLoader, 0), (LinkNeighborLoader, 0), (LinkNeighborLoader, 1)],
)
def test_pyg_loaders(tmp_path, loader, num_workers):
    pytest.importorskip('torch_sparse')
    path = tmp_path / 'clicks.csv'
    rows = ''.join(f'u{n % 9},i{n * n % 23}\n' for n in range(200))
    path.write_text(f'user,item\n{rows}')
    data = T.ToUndirected()(split_interactions(read_interactions(path)))
    edges = {*pairs(data)}
    kwargs = {'input_nodes': ('user', torch.arange(4))}
    if loader is LinkNeighborLoader:
        label = OBSERVED, data[OBSERVED].edge_index[:, :4]
        kwargs = {'edge_label_index': label, 'neg_sampling_ratio': 1.0}
    kwargs = {'batch_size': 4, 'num_workers': num_workers, **kwargs}
    num_neighbors = {edge_type: [-1, -1] for edge_type in data.edge_types}
    batch = next(iter(loader(data, num_neighbors, **kwargs)))
    store = {t: batch[t] for t in ('user', 'item')}
    users, items = (x.raw_id[x.n_id] for x in store.values())
    assert 0 < len(users) == store['user'].num_nodes <= 9
    found = batch[OBSERVED].edge_index.t().tolist()
    assert found and {(users[u], items[i]) for u, i in found} <= edges


def test_raw_ids_stay_through_pyg(tmp_path):
    path = tmp_path / 'clicks.csv'
    path.write_bytes(table())
    data = read_interactions(path)
    assert 'raw_id=RawIds(3)' in str(data)
    changed = {
        'to': data.to('cpu'),
        'clone': data.clone(),
        'copy': copy.deepcopy(data),
        'pickle': pickle.loads(pickle.dumps(data)),
        'undirected': T.ToUndirected()(data),
        'sparse': T.ToSparseTensor()(data),
    }
    torch.save(data, tmp_path / 'data.pt')
    torch.save(data.to_dict(), tmp_path / 'dict.pt')
    changed['whole'] = torch.load(tmp_path / 'data.pt', weights_only=False)
    changed['dict'] = HeteroData.from_dict(torch.load(tmp_path / 'dict.pt'))
    for name, out in changed.items():
        raw_id = out['item'].raw_id
        assert type(raw_id) is RawIds, name
        assert raw_id == data['item'].raw_id == ['tea, green', 'mug', '007']
    assert Batch.from_data_list([data, data])['item'].raw_id == [raw_id] * 2

    users = data['user'].raw_id
    recommender = Recommender(
        *torch.randn(2, 3, 2), raw_user_id=users, raw_item_id=raw_id
    )
    assert recommender.raw_item_id == list(raw_id)
    lists = recommender.recommend(users, k=3)
    assert [sorted(x) for x in lists] == [sorted(raw_id)] * 3
    for form in (torch.tensor, np.array, list):
        assert raw_id[form([2, 0])] == ['007', 'tea, green']
    assert raw_id[-1] == raw_id[np.int64(2)] == '007'
    for bad in ([3], [True, False, True], [[0]], 0.5):
        with pytest.raises(ValueError, match="'index' needs"):
            raw_id[bad]
    with pytest.raises(IndexError):
        raw_id[3]
