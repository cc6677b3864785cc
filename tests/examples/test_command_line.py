import os
import sys

import pytest

from examples import command_line

SHOP = ('--dataset', 'shop')


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
    ('script', 'args', 'message'),
    [
        ('diffmm.py', ('--dataset', 'shpo'), "'shpo'"),
        ('diffmm.py', (*SHOP, '--modalities', 'imgae'), 'imgae'),
        ('diffmm.py', (*SHOP, '--device', 'cuda:99'), "'device'"),
        ('diffmm.py', (*SHOP, '--epochs', '0'), "'num_epochs'"),
        ('diffmm.py', ('--output', 'file'), "'--output' needs to be a"),
        ('diffmm.py', ('--checkpoint-dir', 'file'), "'--checkpoint-dir' needs"),
        ('demo.py', ('--output', 'file'), "'--output' needs to be a"),
        ('recommend.py', ('--export', 'no/a.npz'), "'--export' needs to be a"),
        ('recommend.py', (*SHOP, '--model', 'no-model'), 'no-model'),
        ('new_items.py', SHOP, 'cold item'),
    ],
)
def test_one_line_before_any_work(
    run_example, shop, tmp_path, monkeypatch, script, args, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'file').write_text('mine')
    out = run_example(script, '--root', shop, *args)
    assert out.returncode == 1 and not out.stdout
    assert out.stderr.startswith('error: ') and message in out.stderr
    assert out.stderr.count('\n') == 1
    assert os.listdir(tmp_path) == ['file']


@pytest.mark.parametrize('package', ['matplotlib', 'safetensors'])
def test_missing_packages_are_noticed_before_any_work(
    run_example, shop, tmp_path, monkeypatch, package
):
    monkeypatch.setitem(sys.modules, package, None)
    args = ('--root', shop, *SHOP, '--output', tmp_path / 'out')
    out = run_example('diffmm.py', *args)
    assert out.returncode == 1 and not out.stdout
    assert "pip install 'diffmm_geo[examples]'" in out.stderr
    assert package in out.stderr and out.stderr.count('\n') == 1
    assert not (tmp_path / 'out').exists()
