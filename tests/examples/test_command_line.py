import sys

import pytest

from examples import command_line


@pytest.mark.parametrize('drop', [False, True])
def test_drop_cold_users(tmp_path, monkeypatch, drop):
    (tmp_path / 'raw').mkdir()
    rows = ['userID\titemID\tx_label', '0\t1\t0', '0\t2\t1', '1\t0\t1']
    (tmp_path / 'raw' / 'toy.inter').write_text('\n'.join(rows) + '\n')
    argv = ['x.py', '--dataset', 'toy', f'--root={tmp_path}']
    monkeypatch.setattr(sys, 'argv', argv + drop * ['--drop-cold-users'])
    args = command_line.make_parser(None, *command_line.DATA).parse_args()
    store = command_line.load_data(args)['user', 'interacts', 'item']
    held_out = [[0], [2]] if drop else [[0, 1], [2, 0]]
    assert store.val_edge_label_index.tolist() == held_out
