import threading
import zipfile
from contextlib import suppress
from http.server import BaseHTTPRequestHandler

import pytest

from diffmm_geo.datasets import _download
from diffmm_geo.datasets._download import download, extract_member

CONTENT = bytes(range(256)) * 4000


class Handler(BaseHTTPRequestHandler):
    r"""Answers a request as its path says."""

    release = threading.Event()

    def do_GET(self):
        how = self.path.strip('/')
        if how == 'missing':
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header('Content-Length', str(len(CONTENT)))
        self.end_headers()
        size = len(CONTENT) if how == 'whole' else len(CONTENT) // 2
        self.wfile.write(CONTENT[:size])
        if how == 'hangs':
            self.wfile.flush()
            self.release.wait(60)

    def log_message(self, *args):
        pass

    def finish(self):
        with suppress(ValueError, OSError):
            super().finish()


@pytest.fixture
def server(start_server):
    Handler.release.clear()
    yield start_server(Handler)
    Handler.release.set()


@pytest.mark.parametrize('how', ['dropped', 'missing', 'hangs'])
def test_broken_download(tmp_path, server, monkeypatch, how):
    monkeypatch.setattr(_download, 'TIMEOUT', 0.5)
    path = tmp_path / 'a'
    with pytest.raises(ConnectionError, match=f"'a'.*/{how}.*{tmp_path}"):
        download(f'{server}/{how}', str(path))
    assert list(tmp_path.iterdir()) == []
    download(f'{server}/whole', str(path))
    assert path.read_bytes() == CONTENT


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
    for damaged in (content[:-30], content.replace(b'content', b'c0ntent')):
        archive.write_bytes(damaged)
        with pytest.raises(ValueError, match='a.zip.*a zip archive'):
            extract_member(str(archive), 'a.npy', str(tmp_path / 'b.npy'))
    assert not (tmp_path / 'b.npy').exists()
