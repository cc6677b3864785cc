import io
import struct
import zipfile

import pytest
import torch

from diffmm_geo.utils.torch_file import (
    MAX_DEPTH,
    MAX_TEXT,
    check_pickle,
    check_torch_archive,
    load_torch_file,
)


def write(path, value):
    torch.save(value, path)
    return str(path)


def with_pickle(path, content, method=zipfile.ZIP_STORED):
    r"""A file of `torch.save` with another pickle inside."""
    buffer = io.BytesIO()
    torch.save({'a': torch.ones(3)}, buffer)
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(path, 'w') as z:
        for name in source.namelist():
            inside = source.read(name)
            z.writestr(
                name,
                content if name.endswith('data.pkl') else inside,
                method,
            )
    return str(path)


def test_reads_what_is_plain(tmp_path):
    value = {
        'weight': torch.ones(3, 2, dtype=torch.bfloat16),
        'expanded': torch.ones(2, 1).expand(2, 1),
        'graph': {('user', 'interacts', 'item'): torch.zeros(2, 3).long()},
        'history': [{'epoch': 1, 'loss': [0.5, None, 'x' * 10_000]}],
        'names': tuple(f'm{n}' for n in range(1000)),
    }
    out = load_torch_file(write(tmp_path / 'a.pt', value))
    assert out['weight'].equal(value['weight'])
    assert out['history'] == value['history']
    assert out['names'] == value['names']
    assert list(out['graph']) == list(value['graph'])


def test_optimizer_is_plain(tmp_path):
    module = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    path = write(tmp_path / 'a.pt', optimizer.state_dict())
    assert load_torch_file(path)['state'].keys() == {0, 1}


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_torch_file(str(tmp_path / 'a.pt'))


def test_truncated_and_damaged(tmp_path):
    path = tmp_path / 'a.pt'
    write(path, {'a': torch.arange(100)})
    content = path.read_bytes()
    for size in (0, 10, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        for read in (load_torch_file, check_torch_archive):
            with pytest.raises(ValueError, match='a.pt'):
                read(str(path))
    # PyTorch itself would not notice.
    value = struct.pack('<q', 42)
    assert content.count(value) == 1
    path.write_bytes(content.replace(value, struct.pack('<q', 43)))
    assert torch.load(path)['a'][42] == 43
    for read in (load_torch_file, check_torch_archive):
        with pytest.raises(ValueError, match='a.pt'):
            read(str(path))


def deep(size):
    return b'\x80\x02})' + b'\x85' * size + b'Ns.'


PICKLES = {
    'a key that overflows the stack': (deep(10**6), 'too deep'),
    'a key of 2^60 parts': (
        b'\x80\x02}N' + b'q\x01h\x01\x86' * 60 + b'Ns.',
        'too deep',
    ),
    'the same without a memo': (b'\x80\x02}N' + b'2\x86' * 60 + b'Ns.', 'deep'),
    'a long name': (b'\x80\x02c' + b'a' * 10**5 + b'\nb\n.', 'a text of'),
    'a call of a list': (b'\x80\x02]N\x85R.', 'no name'),
    'a call of any size': (
        b'\x80\x02cbuiltins\nbytearray\n\x8a\x06' + b'\0' * 5 + b'\1\x85R.',
        'bytearray',
    ),
    'a call': (
        b'\x80\x02cos\nsystem\nX\x01\0\0\0x\x85R.',
        'GLOBAL os.system whose module os is blocked',
    ),
}


@pytest.mark.parametrize('name', PICKLES)
def test_hostile(tmp_path, name):
    content, match = PICKLES[name]
    path = with_pickle(tmp_path / 'a.pt', content)
    with pytest.raises(ValueError, match=f'a.pt.*({match})'):
        load_torch_file(path)


def test_reason_is_one_line_without_advice(tmp_path):
    for name in ('a call', 'a long name'):
        path = with_pickle(tmp_path / 'a.pt', PICKLES[name][0])
        with pytest.raises(ValueError) as error:
            load_torch_file(path)
        assert '\n' not in str(error.value)
        assert 'weights_only' not in str(error.value)
    module = torch.nn.Linear(1, 1)
    path = write(tmp_path / 'a.pt', module)
    with pytest.raises(ValueError, match='Linear was not an allowed') as error:
        load_torch_file(path)
    assert '\n' not in str(error.value)


def test_depth_and_length_at_their_limits():
    check_pickle(deep(MAX_DEPTH))
    with pytest.raises(ValueError, match='too deep'):
        check_pickle(deep(MAX_DEPTH + 1))
    text = b'x' * MAX_TEXT
    check_pickle(b'\x80\x02X' + struct.pack('<i', len(text)) + text + b'.')
    # Whatever is on the stack.
    check_pickle(b'\x80\x02(0(1NN\x86\x94h\x00h\x07t\x91.')


def test_archives(tmp_path):
    path = tmp_path / 'a.pt'
    plain = b'\x80\x02N.'
    assert load_torch_file(with_pickle(path, plain)) is None
    with_pickle(path, plain, zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match='compressed'):
        load_torch_file(str(path))
    with_pickle(path, plain)
    with zipfile.ZipFile(path, 'a') as z, pytest.warns(UserWarning):
        z.writestr(z.namelist()[0], b'')
    with pytest.raises(ValueError, match='comes twice'):
        load_torch_file(str(path))


def test_tensor_of_more_elements_than_there_are(tmp_path):
    value = {'a': [torch.ones(1).expand(10**12)]}
    path = write(tmp_path / 'a.pt', value)
    with pytest.raises(ValueError, match='more elements'):
        load_torch_file(path)
