import hashlib
import zipfile

import pytest

from diffmm_geo.datasets._archive import extract_member
from diffmm_geo.datasets._download import download
from diffmm_geo.utils.atomic import atomic_path


def test_atomic_path(tmp_path):
    path = tmp_path / 'a'
    path.write_text('old')
    with pytest.raises(KeyboardInterrupt):
        with atomic_path(str(path)) as temporary:
            with open(temporary, 'w') as f:
                f.write('half')
            raise KeyboardInterrupt
    assert path.read_text() == 'old'
    with atomic_path(str(path)) as temporary:
        with open(temporary, 'w') as f:
            f.write('new')
    assert path.read_text() == 'new'
    assert [p.name for p in tmp_path.iterdir()] == ['a']


def test_download(tmp_path):
    (tmp_path / 'source').write_bytes(b'content')
    url = (tmp_path / 'source').as_uri()
    sha256 = hashlib.sha256(b'content').hexdigest()
    download(url, str(tmp_path / 'a'), sha256)
    assert (tmp_path / 'a').read_bytes() == b'content'

    with pytest.raises(ValueError, match=f'expected SHA-256 {"0" * 64}, got'):
        download(url, str(tmp_path / 'b'), '0' * 64)

    def check(path):
        raise ValueError('bad content')

    with pytest.raises(ValueError, match=f'{url}.*bad content'):
        download(url, str(tmp_path / 'b'), check=check)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['a', 'source']


def test_download_without_network(tmp_path):
    url = (tmp_path / 'nowhere').as_uri()
    with pytest.raises(ConnectionError) as error:
        download(url, str(tmp_path / 'a.npy'))
    for part in ["'a.npy'", url, str(tmp_path)]:
        assert part in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('folder', ['', 'baby/'])
def test_extract_member(tmp_path, folder):
    archive = tmp_path / 'a.zip'
    with zipfile.ZipFile(archive, 'w') as z:
        z.writestr(f'__MACOSX/{folder}a.npy', b'attributes')
        z.writestr(f'{folder}a.npy', b'content')
    extract_member(str(archive), 'a.npy', str(tmp_path / 'a.npy'))
    assert (tmp_path / 'a.npy').read_bytes() == b'content'

    with pytest.raises(ValueError, match="a.zip.*member 'b.npy'"):
        extract_member(str(archive), 'b.npy', str(tmp_path / 'b.npy'))
    content = archive.read_bytes()
    archive.write_bytes(content[:-30])
    with pytest.raises(ValueError, match='a.zip.*readable zip archive'):
        extract_member(str(archive), 'a.npy', str(tmp_path / 'b.npy'))
    archive.write_bytes(content.replace(b'content', b'c0ntent'))
    with pytest.raises(ValueError, match='a.zip.*readable zip archive'):
        extract_member(str(archive), 'a.npy', str(tmp_path / 'b.npy'))
    assert not (tmp_path / 'b.npy').exists()
