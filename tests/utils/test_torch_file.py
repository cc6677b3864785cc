import struct

import pytest
import torch

from diffmm_geo.utils.torch_file import load_torch_file
from tests.pickled_call import PickledCall


def write(path, value):
    torch.save(value, path)
    return str(path)


def test_damaged(tmp_path):
    path = tmp_path / 'a.pt'
    with pytest.raises(FileNotFoundError):
        load_torch_file(str(path))
    write(path, {'a': torch.arange(100)})
    content, value = path.read_bytes(), struct.pack('<q', 42)
    assert content.count(value) == 1
    path.write_bytes(content.replace(value, struct.pack('<q', 43)))
    assert torch.load(path)['a'][42] == 43  # PyTorch itself does not notice.
    with pytest.raises(ValueError, match='a.pt.*is damaged'):
        load_torch_file(str(path))


def test_error_does_not_advise_to_execute_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / 'a.pt', PickledCall(open, 'executed', 'w'))
    with pytest.raises(ValueError, match='a.pt.*open was not an all') as error:
        load_torch_file(path)
    assert '\n' not in str(error.value)
    assert 'weights_only' not in str(error.value)
    assert not (tmp_path / 'executed').exists()
    torch.load(path, weights_only=False)  # So the above would have noticed.
    assert (tmp_path / 'executed').exists()
