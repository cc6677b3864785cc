import io
import struct
import zipfile

import pytest
import torch

from diffmm_geo.utils.torch_file import load_torch_file


def write(path, value):
    torch.save(value, path)
    return str(path)


def test_reads_what_is_plain(tmp_path):
    value = {
        'weight': torch.ones(3, 2, dtype=torch.bfloat16),
        'graph': {('user', 'interacts', 'item'): torch.zeros(2, 3).long()},
        'history': [{'epoch': 1, 'loss': [0.5, None, 'x' * 10_000]}],
        'names': tuple(f'm{n}' for n in range(1000)),
    }
    out = load_torch_file(write(tmp_path / 'a.pt', value))
    assert out['weight'].equal(value['weight'])
    assert out['history'] == value['history']
    assert out['names'] == value['names']
    assert list(out['graph']) == list(value['graph'])


def test_truncated_and_damaged(tmp_path):
    path = tmp_path / 'a.pt'
    with pytest.raises(FileNotFoundError):
        load_torch_file(str(path))
    write(path, {'a': torch.arange(100)})
    content = path.read_bytes()
    for size in (0, 10, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match='a.pt.*a whole'):
            load_torch_file(str(path))
    for size in (5000, 70_000):
        path.write_bytes(content + bytes(size))
        with pytest.raises(ValueError, match='a.pt.*a whole'):
            load_torch_file(str(path))
    # PyTorch itself would not notice.
    value = struct.pack('<q', 42)
    assert content.count(value) == 1
    path.write_bytes(content.replace(value, struct.pack('<q', 43)))
    assert torch.load(path)['a'][42] == 43
    with pytest.raises(ValueError, match='a.pt.*is damaged'):
        load_torch_file(str(path))


def test_nothing_is_executed(tmp_path):
    buffer = io.BytesIO()
    torch.save({'a': torch.ones(3)}, buffer)
    path, victim = tmp_path / 'a.pt', tmp_path / 'victim'
    name = str(victim).encode()
    call = b'\x80\x02cbuiltins\nopen\nX' + struct.pack('<i', len(name)) + name
    call += b'X\x01\0\0\0w\x86R.'
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(path, 'w') as z:
        for name in source.namelist():
            is_pickle = name.endswith('data.pkl')
            z.writestr(name, call if is_pickle else source.read(name))
    with pytest.raises(ValueError, match='a.pt.*open was not an all') as error:
        load_torch_file(str(path))
    # One line, which does not advise to execute it.
    assert '\n' not in str(error.value)
    assert 'weights_only' not in str(error.value)
    assert not victim.exists()
    torch.load(path, weights_only=False)  # So the above would have noticed.
    assert victim.exists()
