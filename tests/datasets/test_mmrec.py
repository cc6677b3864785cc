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
    with pytest.raises(ValueError, match=r"\['image', 'text'\].*\['audio'\]"):
        MMRecDataset(tmp_path, 'toy', modalities=['audio'])


def test_columns_are_found_by_name(tmp_path):
    header = 'x_label\textra\titemID\tuserID'
    rows = ['0\ta b\t3\t1', '1\t\t2\t0', '2\tc\t0\t2', '0\td\t1\t0']
    write(tmp_path, rows, header)
    store = MMRecDataset(tmp_path, 'toy')[0]['user', 'interacts', 'item']
    assert store.edge_index.tolist() == [[0, 1], [1, 3]]
    assert store.val_edge_label_index.tolist() == [[0], [2]]
    assert store.test_edge_label_index.tolist() == [[2], [0]]


@pytest.mark.parametrize(
    'changes, match',
    [
        ({'header': HEADER.replace('itemID', 'x')}, "columns .*'itemID'"),
        ({'rows': [*ROWS, '0\t1\t5.0\t1\t3']}, "'x_label' up to 2, got 3"),
        ({'rows': [*ROWS, '0\t1\t5.0\t1\t0.0']}, "Row #7.*value '0.0'"),
        ({'rows': [*ROWS, '0\t-1\t5.0\t1\t0']}, "Row #7.*value '-1'"),
        ({'rows': [*ROWS, '0\t2147483647\t5\t1\t0']}, "'itemID' up to"),
        ({'rows': [*ROWS, '0\t1\t5.0']}, 'Row #7: Expected 5 columns, got 3'),
        ({'rows': []}, 'expected training interactions, got none'),
        ({'rows': ROWS[3:]}, 'expected training interactions, got none'),
        ({'image': np.ones((3, 2))}, 'features of the 4 items.*got 3'),
        (
            {'image': np.ones((4, 2)), 'text': np.ones((5, 2))},
            r'text_feat.*4 items, got shape \[5, 2\]',
        ),
    ],
)
def test_invalid_files(tmp_path, changes, match):
    write(tmp_path, **changes)
    with pytest.raises(ValueError, match=f'{tmp_path}/raw.*{match}'):
        MMRecDataset(tmp_path, 'toy')
    assert not list((tmp_path / 'processed').glob('*'))


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="'toy.inter'.*raw.*MMRec"):
        MMRecDataset(tmp_path, 'toy', modalities=['image'])
    assert list(tmp_path.iterdir()) == []


def test_held_out_interactions_in_training(tmp_path):
    write(tmp_path, [*ROWS, '1\t3\t1.0\t104\t1'])
    with pytest.warns(UserWarning, match="1 of 2 .*'val_edge_label_index'"):
        MMRecDataset(tmp_path, 'toy')
