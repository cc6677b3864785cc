import errno

import numpy as np
import pytest
import torch

from diffmm_geo.datasets import MMRecDataset

HEADER = 'userID\titemID\trating\ttimestamp\tx_label'
ROWS = [
    '1\t3\t5.0\t100\t0',
    '0\t1\t5.0\t100\t0',
    '0\t1\t5.0\t101\t0',
    '0\t2\t4.0\t102\t1',
    '2\t0\t1.0\t103\t2',
]


def write(tmp_path, rows=ROWS, header=HEADER, end='\n', **features):
    raw = tmp_path / 'raw'
    raw.mkdir(exist_ok=True)
    content = end.join([header, *rows, ''])
    (raw / 'toy.inter').write_bytes(content.encode())
    for name, x in features.items():
        np.save(raw / f'{name}_feat.npy', x)


@pytest.mark.parametrize('end', ['\n', '\r\n'])
def test_mmrec(tmp_path, end):
    image = np.random.RandomState(0).standard_normal((6, 3))
    write(tmp_path, end=end, image=image, text=np.ones((6, 2)))
    dataset = MMRecDataset(tmp_path, 'toy')
    assert str(dataset) == 'MMRecDataset(toy)'
    data = dataset[0]
    data.validate()
    assert data['user'].num_nodes == 3
    assert data['item'].num_nodes == 6  # The rows of the features.
    store = data['user', 'interacts', 'item']
    assert store.edge_index.tolist() == [[0, 1], [1, 3]]
    assert store.val_edge_label_index.tolist() == [[0], [2]]
    assert store.test_edge_label_index.tolist() == [[2], [0]]
    assert torch.equal(data['item'].x_image, torch.from_numpy(image).float())
    assert data['item'].x_text.size() == (6, 2)


def test_modalities(tmp_path):
    write(tmp_path, image=np.ones((6, 3)), text=np.ones((6, 2)))
    data = MMRecDataset(tmp_path, 'toy', modalities=['text'])[0]
    assert 'x_text' in data['item'] and 'x_image' not in data['item']
    data = MMRecDataset(tmp_path, 'toy', modalities=[])[0]
    assert data['item'].num_nodes == 4  # The largest item plus one.
    with pytest.raises(ValueError) as error:
        MMRecDataset(tmp_path, 'toy', modalities=['audio'])
    for part in ["['image', 'text']", "['audio']", str(tmp_path / 'raw')]:
        assert part in str(error.value)


def test_columns_are_found_by_name(tmp_path):
    header = 'x_label\textra\titemID\tuserID'
    rows = ['0\ta b\t3\t1', '1\t\t2\t0', '2\tc\t0\t2', '0\td\t1\t0']
    write(tmp_path, rows, header)
    store = MMRecDataset(tmp_path, 'toy')[0]['user', 'interacts', 'item']
    assert store.edge_index.tolist() == [[0, 1], [1, 3]]
    assert store.val_edge_label_index.tolist() == [[0], [2]]
    assert store.test_edge_label_index.tolist() == [[2], [0]]


@pytest.mark.parametrize('column', ['userID', 'itemID', 'x_label'])
def test_missing_column(tmp_path, column):
    write(tmp_path, header=HEADER.replace(column, 'other'))
    match = f"toy.inter.*{column}.*'{column}'.* does not exist"
    with pytest.raises(ValueError, match=match):
        MMRecDataset(tmp_path, 'toy')


@pytest.mark.parametrize(
    'row, match',
    [
        ('0\t1\t5.0\t100\t3', 'x_label to be 0, 1 or 2, got 3'),
        ('0\t1\t5.0\t100\t', "column #4: Row #7.*invalid value ''"),
        ('0\t1\t5.0\t100\t0.0', "column #4: Row #7.*invalid value '0.0'"),
        ('a\t1\t5.0\t100\t0', "column #0: Row #7.*invalid value 'a'"),
        ('0\t1.5\t5.0\t100\t0', "column #1: Row #7.*invalid value '1.5'"),
        ('0\t-1\t5.0\t100\t0', "column #1: Row #7.*invalid value '-1'"),
        ('1_0\t1\t5.0\t100\t0', "column #0: Row #7.*invalid value '1_0'"),
        ('0\t2147483647\t5.0\t100\t0', "got 'itemID' of 2147483647"),
        ('0\t1\t5.0', 'Row #7: Expected 5 columns, got 3'),
    ],
)
def test_invalid_row(tmp_path, row, match):
    write(tmp_path, [*ROWS, row])
    with pytest.raises(ValueError, match=f'toy.inter.*{match}'):
        MMRecDataset(tmp_path, 'toy')
    assert list((tmp_path / 'processed').iterdir()) == []


def test_invalid_text(tmp_path):
    write(tmp_path)
    (tmp_path / 'raw' / 'toy.inter').write_bytes(b'\xff\xfe\x00')
    with pytest.raises(ValueError, match='toy.inter.*tab-separated'):
        MMRecDataset(tmp_path, 'toy')


@pytest.mark.parametrize(
    'rows, match',
    [([], 'expected interactions, got none'), (ROWS[3:], 'one training')],
)
def test_no_interactions(tmp_path, rows, match):
    write(tmp_path, rows)
    with pytest.raises(ValueError, match=match):
        MMRecDataset(tmp_path, 'toy')


def test_invalid_features(tmp_path):
    write(tmp_path, image=np.ones((3, 2)))
    with pytest.raises(ValueError, match='image_feat.*at least 4.*got 3'):
        MMRecDataset(tmp_path, 'toy')
    write(tmp_path, image=np.ones((4, 2)), text=np.ones((5, 2)))
    with pytest.raises(ValueError, match='text_feat.*as many as.*got 5'):
        MMRecDataset(tmp_path, 'toy')
    write(tmp_path, text=np.full((4, 2), np.nan))
    with pytest.raises(ValueError, match='text_feat.*NaN'):
        MMRecDataset(tmp_path, 'toy')
    write(tmp_path, text=np.full((4, 2), None, dtype=object))
    with pytest.raises(ValueError, match='text_feat.*Python objects'):
        MMRecDataset(tmp_path, 'toy')


def test_missing_files(tmp_path):
    for _ in range(2):  # Without and with the folder.
        with pytest.raises(FileNotFoundError) as error:
            MMRecDataset(tmp_path, 'toy', modalities=['image'])
        for part in ["'toy.inter'", str(tmp_path / 'raw'), 'MMRec']:
            assert part in str(error.value)
        (tmp_path / 'raw').mkdir(exist_ok=True)


@pytest.mark.parametrize('name', ['', '../toy', 'a/b', 'a+b'])
def test_invalid_name(tmp_path, name):
    with pytest.raises(ValueError, match="'name' is expected"):
        MMRecDataset(tmp_path, name)


def test_held_out_interactions_in_training(tmp_path):
    write(tmp_path, [*ROWS, '1\t3\t1.0\t104\t1'])
    with pytest.warns(UserWarning, match="1 of 2 .*'val_edge_label_index'"):
        MMRecDataset(tmp_path, 'toy')


def test_users_without_training_interactions(tmp_path):
    rows = [*ROWS, '3\t2\t1.0\t104\t1', '1\t0\t1.0\t105\t2']
    write(tmp_path, rows)
    for drop, val, test in (
        (False, [[0, 3], [2, 2]], [[1, 2], [0, 0]]),
        (True, [[0], [2]], [[1], [0]]),
        (False, [[0, 3], [2, 2]], [[1, 2], [0, 0]]),
    ):
        data = MMRecDataset(tmp_path, 'toy', drop_cold_users=drop)[0]
        store = data['user', 'interacts', 'item']
        assert store.val_edge_label_index.tolist() == val
        assert store.test_edge_label_index.tolist() == test
        assert data['user'].num_nodes == 4
        assert store.edge_index.tolist() == [[0, 1], [1, 3]]
    with pytest.raises(ValueError, match="'drop_cold_users'"):
        MMRecDataset(tmp_path, 'toy', drop_cold_users='yes')


@pytest.mark.parametrize('name', ['pre_transform.pt', 'pre_filter.pt'])
def test_what_pyg_wrote_in_part(tmp_path, name):
    write(tmp_path, image=np.ones((6, 3)))
    expected = MMRecDataset(tmp_path, 'toy')[0]
    path = tmp_path / 'processed' / name
    for size in (0, 100):
        path.write_bytes(path.read_bytes()[:size])
        data = MMRecDataset(tmp_path, 'toy')[0]
        assert data['item'].x_image.equal(expected['item'].x_image)
        assert isinstance(torch.load(path), str)


def test_full_disk_while_pyg_writes(tmp_path, monkeypatch):
    def fail(data, path):
        if 'pre_transform.pt' in path:
            raise OSError(errno.ENOSPC, 'No space left on device')
        torch.save(data, path)

    write(tmp_path)
    monkeypatch.setattr('torch_geometric.io.fs.torch_save', fail)
    error = f"No space left on device: '{tmp_path}/processed'"
    with pytest.raises(OSError, match=error):
        MMRecDataset(tmp_path, 'toy')
