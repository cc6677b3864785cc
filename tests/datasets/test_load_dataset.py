import numpy as np
import pytest

from diffmm_geo.datasets import load_dataset


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


def test_unknown(tmp_path):
    with pytest.raises(ValueError, match=r"'name'.*'tiktok'.*'tictok'"):
        load_dataset('tictok', tmp_path)
