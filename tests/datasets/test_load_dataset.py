import numpy as np
import pytest
import torch

from diffmm_geo.datasets import load_dataset, write_mmrec
from tests.datasets.graphs import SPLITS


def test_mmrec_by_name(tmp_path):
    (tmp_path / 'raw').mkdir()
    lines = ['userID\titemID\tx_label', '0\t1\t0', '1\t2\t1', '1\t0\t0']
    (tmp_path / 'raw' / 'toy.inter').write_text('\n'.join(lines) + '\n')
    for name in ('image', 'text'):
        np.save(tmp_path / 'raw' / f'{name}_feat.npy', np.ones((4, 3)))
    data = load_dataset('toy', tmp_path)
    assert data['item'].num_nodes == 4
    assert {'x_image', 'x_text'} <= set(data['item'].keys())
    data = load_dataset('toy', tmp_path, ['text'])
    assert 'x_image' not in data['item']


@pytest.mark.parametrize('name', ['toy', 'folder'])
def test_cold_users(tmp_path, planted, name):
    data = planted()
    store = data['user', 'interacts', 'item']
    store.edge_index = store.edge_index[:, store.edge_index[0] != 3]
    cold = torch.tensor([[3, 3], [1, 2]])
    for split in ('val', 'test'):
        key = f'{split}_edge_label_index'
        store[key] = torch.cat([store[key][:, store[key][0] != 3], cold], dim=1)
    root = tmp_path
    if name == 'folder':
        for split, key in zip(('train', 'val', 'test'), SPLITS):
            np.save(root / f'{split}.npy', store[key].numpy())
    else:
        write_mmrec(data, root / 'raw', name)
    kept = load_dataset(name, root)['user', 'interacts', 'item']
    out = load_dataset(name, root, drop_cold_users=True)
    assert out['user'].num_nodes == data['user'].num_nodes
    out = out['user', 'interacts', 'item']
    assert out.edge_index.equal(kept.edge_index)
    for key in SPLITS[1:]:
        assert (kept[key][0] == 3).sum() == 2
        assert out[key].equal(kept[key][:, kept[key][0] != 3])
    with pytest.raises(ValueError, match="'drop_cold_users'"):
        load_dataset(name, root, drop_cold_users='yes')


def test_unknown(tmp_path):
    with pytest.raises(ValueError, match=r"'name'.*'tiktok'.*'tictok'"):
        load_dataset('tictok', tmp_path)
