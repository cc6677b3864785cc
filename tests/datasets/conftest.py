import pickle
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from scipy import sparse


@pytest.fixture
def official_raw(tmp_path):
    r"""Raw files of 4 users and 5 items in the format of the authors."""
    raw = tmp_path / 'raw'
    raw.mkdir()
    splits = {
        'trnMat': [(0, 1), (0, 3), (1, 0), (3, 4)],
        'valMat': [(0, 0), (1, 2)],
        'tstMat': [(3, 2)],
    }
    for name, edges in splits.items():
        row, col = np.array(edges).T
        matrix = sparse.coo_matrix((np.ones(len(row)), (row, col)), (4, 5))
        (raw / f'{name}.pkl').write_bytes(pickle.dumps(matrix, protocol=3))
    rng = np.random.RandomState(0)
    for name, channels in [('image', 3), ('text', 4), ('audio', 2)]:
        x = rng.standard_normal((5, channels)).astype(np.float16)
        np.save(raw / f'{name}_feat.npy', x)
    return raw


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def start_server():
    r"""Starts a server with a request handler, and returns its URL."""
    servers = []

    def start(handler):
        server = ThreadingHTTPServer(('127.0.0.1', 0), handler)
        server.handle_error = lambda *args: None  # A client that went away.
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        servers.append((server, thread))
        return f'http://127.0.0.1:{server.server_address[1]}'

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def serve_folder(start_server):
    return lambda folder: start_server(partial(Quiet, directory=str(folder)))
