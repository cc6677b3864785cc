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
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from diffmm_geo.datasets import _download
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


CONTENT = bytes(range(256)) * 4000


class Handler(BaseHTTPRequestHandler):
    r"""Does with a request what its path says."""

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
            length = 'many' if how == 'bad-length' else str(size)
            self.send_header('Content-Length', length)
        self.end_headers()
        if how in ('whole', 'longer', 'bad-length'):
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
                    socket.SOL_SOCKET,
                    socket.SO_LINGER,
                    struct.pack('ii', 1, 0),
                )
                self.connection.close()

    def log_message(self, *args):
        pass

    def finish(self):
        with suppress(ValueError, OSError):
            super().finish()


@pytest.fixture
def server():
    class Server(ThreadingHTTPServer):
        def handle_error(self, *args):
            pass  # A client that went away.

    Handler.release.clear()
    server = Server(('127.0.0.1', 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f'http://127.0.0.1:{server.server_address[1]}'
    Handler.release.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    'how',
    [
        *['dropped', 'longer', 'bad-length', 'chunked', 'missing'],
        *['hangs', 'reset'],
    ],
)
def test_broken_download(tmp_path, server, monkeypatch, how):
    monkeypatch.setattr(_download, 'TIMEOUT', 0.5)
    path = tmp_path / 'a'
    with pytest.raises(ConnectionError, match=f"'a'.*/{how}"):
        download(f'{server}/{how}', str(path))
    assert list(tmp_path.iterdir()) == []
    # It is fetched anew, and what is there already survives.
    download(f'{server}/whole', str(path))
    assert path.read_bytes() == CONTENT
    with pytest.raises(ConnectionError):
        download(f'{server}/{how}', str(path))
    assert path.read_bytes() == CONTENT
    assert list(tmp_path.iterdir()) == [path]


def test_half_of_unknown_length_fails_its_check(tmp_path, server):
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    with pytest.raises(ValueError, match='no-length.*expected SHA-256'):
        download(f'{server}/no-length', str(tmp_path / 'a'), sha256)
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
    half = None
    while half is None or half.stat().st_size == 0:
        assert process.poll() is None
        half = next(tmp_path.iterdir(), None)
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not path.exists()
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
    archive.write_bytes(content[:-30])
    with pytest.raises(ValueError, match='a.zip.*readable zip archive'):
        extract_member(str(archive), 'a.npy', str(tmp_path / 'b.npy'))
    archive.write_bytes(content.replace(b'content', b'c0ntent'))
    with pytest.raises(ValueError, match='a.zip.*readable zip archive'):
        extract_member(str(archive), 'a.npy', str(tmp_path / 'b.npy'))
    assert not (tmp_path / 'b.npy').exists()
