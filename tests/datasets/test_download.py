import hashlib
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import zipfile
from contextlib import suppress
from http.server import BaseHTTPRequestHandler

import pytest

from diffmm_geo.datasets import _download
from diffmm_geo.datasets._download import download, extract_member
from diffmm_geo.utils.atomic import atomic_path

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


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


class Handler(BaseHTTPRequestHandler):
    r"""Answers a request as its path says."""

    release = threading.Event()

    def do_GET(self):
        how = self.path.strip('/')
        if how == 'missing':
            self.send_error(404)
            return
        self.send_response(200)
        if how == 'chunked':
            self.send_header('Transfer-Encoding', 'chunked')
        elif how != 'no-length':
            size = len(CONTENT) + (10 if how == 'longer' else 0)
            self.send_header('Content-Length', str(size))
        self.end_headers()
        if how in ('whole', 'longer'):
            self.wfile.write(CONTENT)
        elif how == 'chunked':
            self.wfile.write(b'%x\r\n' % len(CONTENT) + CONTENT[:-1])
        else:
            self.wfile.write(CONTENT[: len(CONTENT) // 2])
            if how == 'hangs':
                self.wfile.flush()
                self.release.wait(60)
            elif how == 'reset':
                self.connection.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)
                )
                self.connection.close()

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


def test_download(tmp_path, server):
    url, path = f'{server}/whole', tmp_path / 'a'
    download(url, str(path), SHA256)
    assert path.read_bytes() == CONTENT

    def check(path):
        raise ValueError('bad content')

    match = f'{url}.*expected sha256:{"0" * 64} but got {SHA256}'
    with pytest.raises(ValueError, match=match):
        download(url, str(tmp_path / 'b'), '0' * 64)
    with pytest.raises(ValueError, match=f'{url}.*bad content'):
        download(url, str(tmp_path / 'b'), check=check)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    'how', ['dropped', 'longer', 'chunked', 'missing', 'hangs', 'reset']
)
def test_broken_download(tmp_path, server, monkeypatch, how):
    monkeypatch.setattr(_download, 'TIMEOUT', 0.5)
    path = tmp_path / 'a'
    with pytest.raises(ConnectionError, match=f"'a'.*/{how}.*{tmp_path}"):
        download(f'{server}/{how}', str(path))
    assert list(tmp_path.iterdir()) == []
    # Another download succeeds, and one that fails keeps the file.
    download(f'{server}/whole', str(path))
    assert path.read_bytes() == CONTENT
    with pytest.raises(ConnectionError):
        download(f'{server}/{how}', str(path))
    assert path.read_bytes() == CONTENT
    assert list(tmp_path.iterdir()) == [path]


def test_half_of_unknown_length_fails_its_check(tmp_path, server):
    with pytest.raises(
        ValueError, match=f'no-length.*expected sha256:{SHA256}'
    ):
        download(f'{server}/no-length', str(tmp_path / 'a'), SHA256)
    assert list(tmp_path.iterdir()) == []


def test_killed_download(tmp_path, server):
    path = tmp_path / 'a'
    code = 'import sys; from diffmm_geo.datasets._download import download; '
    code += 'download(*sys.argv[1:])'
    process = subprocess.Popen(
        [sys.executable, '-c', code, f'{server}/hangs', str(path)],
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)},
        stderr=subprocess.DEVNULL,
    )
    while not any(half.stat().st_size for half in tmp_path.iterdir()):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not path.exists()
    download(f'{server}/whole', str(path))
    assert path.read_bytes() == CONTENT


def test_without_pooch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pooch', None)
    with pytest.raises(ImportError, match='pip install pooch'):
        download('http://127.0.0.1:9', str(tmp_path / 'a'))


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
