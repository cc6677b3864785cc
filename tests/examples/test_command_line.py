import os
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


@pytest.mark.parametrize(
    ('path', 'is_file', 'expected'),
    [
        ('file', False, 'a folder .got the file'),
        ('file/a', False, 'a folder in an existing folder'),
        ('folder', True, 'a file .got the folder'),
        ('file/a', True, 'a file in an existing folder'),
        ('no/a', True, 'a file in an existing folder'),
        ('folder', False, None),
        ('no/a', False, None),
        ('file', True, None),
        ('folder/a', True, None),
    ],
)
def test_check_output(tmp_path, monkeypatch, path, is_file, expected):
    (tmp_path / 'file').write_text('mine')
    (tmp_path / 'folder').mkdir()
    monkeypatch.chdir(tmp_path)

    def check():
        command_line.check_output('out', path, is_file)

    if expected is None:
        check()
        # Root may write to read-only folders.
        monkeypatch.setattr(os, 'access', lambda *args: False)
        expected = 'to write .got .* is read-only'
    with pytest.raises(ValueError, match=f"'--out' needs to be .*{expected}"):
        check()
    assert sorted(os.listdir()) == ['file', 'folder']


@pytest.mark.parametrize(
    ('script', 'option', 'name'),
    [
        ('diffmm.py', '--output', 'file'),
        ('diffmm.py', '--checkpoint-dir', 'file'),
        ('demo.py', '--output', 'file'),
        ('recommend.py', '--export', 'no/a.npz'),
    ],
)
def test_output_is_checked_before_any_work(
    run_example, tmp_path, script, option, name
):
    (tmp_path / 'file').write_text('mine')
    out = run_example(script, f'--root={tmp_path}', option, tmp_path / name)
    assert out.returncode == 1 and not out.stdout
    assert f"error: '{option}' needs to be a" in out.stderr
    assert out.stderr.count('\n') == 1
    assert os.listdir(tmp_path) == ['file']
