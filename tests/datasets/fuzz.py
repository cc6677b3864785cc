r"""Feeds readers with what no writer wrote.

    python tests/datasets/fuzz.py --count 10000 [TARGET ...]

A target is read in a process of its own, with bounded memory, file size and
time, and in which nothing may be executed, imported or written but for what
the reader is there for. Each input has to be read as something valid, or
refused with a `ValueError` that names the file, without leaving anything
behind. Inputs follow from the seed alone.
"""

import argparse
import encodings
import importlib
import io
import json
import os
import pickle
import pkgutil
import random
import re
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from scipy import sparse
from torch.nn import Linear

from diffmm_geo.datasets import (
    MMRecDataset,
    MovieLens100K,
    TikTok,
    load_folder,
)
from diffmm_geo.datasets._archive import extract_member
from diffmm_geo.datasets._interaction_files import load_interactions
from diffmm_geo.datasets._npy import load_features
from diffmm_geo.datasets._table import parse_column, parse_id, read_columns
from diffmm_geo.datasets._unpickle import read_pattern
from diffmm_geo.nn import DiffMM, load_official_checkpoint
from diffmm_geo.recommender import SUFFIXES, Recommender
from diffmm_geo.training.checkpoint import read_checkpoint, write_checkpoint
from diffmm_geo.utils.torch_file import load_torch_file

# More memory than the process has when it begins to read, and the size of the
# largest file that it may write.
MAX_MEMORY, MAX_FILE = 2**29, 2**24
SECONDS_PER_INPUT = 20
MAX_INPUT = 2**20

# What a process does when it does what a file says. (`compile` is what
# `ast.literal_eval` calls, which executes nothing.)
FORBIDDEN = (
    'ctypes',
    'exec',
    'import',
    'os.exec',
    'os.fork',
    'os.kill',
    'os.posix_spawn',
    'os.putenv',
    'os.spawn',
    'os.startfile',
    'os.system',
    'pickle.find_class',
    'pty.spawn',
    'socket',
    'subprocess.Popen',
    'urllib',
)


@dataclass
class Target:
    r"""A reader to feed.

    Args:
        seeds (dict): Valid content by the name of the file that it comes in;
            names of one file that may come in several forms end in `#form`.
        hostile (list): Content that was made to do harm.
        read (callable): Reads the files in a folder, and raises an
            `AssertionError` if what comes out is not valid.
        beside (dict): Valid files beside those that are fuzzed.
        makes (callable): Whether reading makes a file of that name.
        makes_anyway (list): The names of what is made where it is refused.
    """

    seeds: dict[str, bytes]
    hostile: Sequence[bytes]
    read: Callable[[Path], None]
    beside: dict[str, bytes] = field(default_factory=dict)
    makes: Callable[[str], bool] = lambda name: False
    makes_anyway: Sequence[str] = ()


# ---------------------------------------------------------------- mutations


def mutated(
    rng: random.Random,
    content: bytes,
    others: Sequence[bytes],
) -> bytes:
    r"""Content with one to four things done to it."""
    if content.startswith(b'PK') and rng.random() < 0.7:
        return change_member(rng, content, others)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 4])):
        content = rng.choice(MUTATIONS)(rng, content, others)[:MAX_INPUT]
    return content


def change_member(rng, content, others):
    r"""A zip archive of which a file is another, checksum included."""
    buffer = io.BytesIO()
    try:
        with (
            zipfile.ZipFile(io.BytesIO(content)) as source,
            zipfile.ZipFile(buffer, 'w') as target,
        ):
            infos = source.infolist()
            changed = rng.choice(infos)
            for info in infos:
                inside = source.read(info)
                if info is changed:
                    inside = mutated(rng, inside, others)
                target.writestr(info, inside, info.compress_type)
    except Exception:  # It is none.
        return content
    return buffer.getvalue()[:MAX_INPUT]


def _span(rng: random.Random, size: int) -> tuple[int, int]:
    start = rng.randrange(size + 1)
    length = min(size - start, int(2 ** (rng.random() * 10)))
    return start, start + length


def truncate(rng, content, others):
    return content[: rng.randrange(len(content) + 1)]


def flip_bits(rng, content, others):
    out = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        if out:
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def overwrite(rng, content, others):
    start, stop = _span(rng, len(content))
    return content[:start] + rng.randbytes(stop - start) + content[stop:]


def shuffle(rng, content, others):
    start, stop = _span(rng, len(content))
    part = list(content[start:stop])
    rng.shuffle(part)
    return content[:start] + bytes(part) + content[stop:]


def delete(rng, content, others):
    start, stop = _span(rng, len(content))
    return content[:start] + content[stop:]


def repeat(rng, content, others):
    start, stop = _span(rng, len(content))
    part = content[start:stop] * rng.choice([2, 3, 100, 2000])
    return content[:start] + part + content[stop:]


def splice(rng, content, others):
    other = rng.choice(others)
    start, stop = _span(rng, len(content))
    first, last = _span(rng, len(other))
    return content[:start] + other[first:last] + content[stop:]


def join(rng, content, others):
    other = rng.choice(others)
    cut, place = rng.randrange(len(content) + 1), rng.randrange(len(other) + 1)
    return content[:cut] + other[place:]


def insert_word(rng, content, others):
    place = rng.randrange(len(content) + 1)
    stop = place + rng.choice([0, 1, 4, 8])
    return content[:place] + rng.choice(WORDS) + content[stop:]


def change_number(rng, content, others):
    # A number as text.
    places = [i for i, byte in enumerate(content[:4096]) if 48 <= byte < 58]
    if not places:
        return content
    start = stop = rng.choice(places)
    while stop < len(content) and 48 <= content[stop] < 58:
        stop += 1
    return content[:start] + rng.choice(NUMBERS) + content[stop:]


def move_rows(rng, content, others):
    rows = content.split(b'\n')
    rng.shuffle(rows)
    return b'\n'.join(rows)


MUTATIONS = [
    *[truncate, flip_bits, overwrite, shuffle, delete, repeat, splice, join],
    *[insert_word, change_number, move_rows],
]

NUMBERS = [
    *[b'-1', b'0', b'1', b'255', b'65536', b'1e3', b'1_0', b'0x10', b'1.5'],
    *[b'%d' % (2**n - d) for n in (15, 31, 32, 63, 64, 200) for d in (0, 1)],
    *[b'nan', b'inf', b'-inf', b'NaN', b'9' * 5000, b'', b'True', b'None'],
    '٣'.encode(),  # A digit, but for ASCII.
]
WORDS = [
    *[struct.pack('<q', n) for n in (-1, 2**31, 2**32, 2**40, 2**63 - 1)],
    *[struct.pack('<i', n) for n in (-1, -(2**31), 2**16, 2**31 - 1)],
    *[struct.pack('<d', x) for x in (float('nan'), float('inf'), 1e300)],
    *[b'\0', b'\xff', b'\n', b'\r', b'\t', b'\t\t', b'.', b'(', b'\xff\xfe'],
    *[b'\xed\xa0\x80', '\u202e'.encode(), '\u2028'.encode(), b'\x1a'],
    *[b'\x85', b'}', b'u', b's', b'R', b'b', b'0', b'2', b'h\x00', b'q\xff'],
    *[b'r\xff\xff\xff\xff', b'\x8b\xff\xff\xff\x7f', b'\x95' + b'\xff' * 8],
    *[b'cos\nsystem\n', b'cbuiltins\neval\n', b'\x8c\x02os\x8c\x06system\x93'],
    *[b'PK\x03\x04', b'\x93NUMPY\x01\x00', b'|O', b'<f8', b'O8', b'V0'],
    *[b'../', b'/', b'\\', b"'", b'"', b'{', b')' * 300, b'(' * 300],
]


# ------------------------------------------------------------------- seeds


class Call:
    r"""Is pickled as a call of a function."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


def matrix(format: str = 'coo', kind: str = 'matrix') -> sparse.spmatrix:
    row = np.array([0, 0, 1, 3], dtype=np.int32)
    col = np.array([1, 3, 0, 4], dtype=np.int32)
    coo = sparse.coo_matrix((np.ones(4), (row, col)), (4, 5))
    return getattr(sparse, f'{format}_{kind}')(coo)


def hostile_pickles() -> list[bytes]:
    calls = [
        Call(os.system, 'echo executed'),
        Call(eval, '__import__("os").abort()'),
        Call(exec, 'raise SystemExit'),
        Call(os.abort),
        Call(os._exit, 0),
        Call(open, 'executed', 'w'),
        Call(bytearray, 2**40),
        Call(np.zeros, 2**40),
        Call(np.empty, (2**20, 2**20)),
        Call(__import__, 'this'),
    ]
    out = [pickle.dumps(call, protocol=p) for call in calls for p in range(6)]
    for call in calls:
        for name in ('data', 'row', '_shape'):
            inner = matrix()
            vars(inner)[name] = call
            out.append(pickle.dumps(inner, protocol=3))
    million = 10**6
    out += [
        # A tuple in a tuple ... as a key, and as all there is.
        b'\x80\x02})' + b'\x85' * million + b'Ns.',
        b'\x80\x02)' + b'\x85' * million + b'.',
        b'\x80\x02' + b'(' * million + b'.',
        b'\x80\x02' + b']' * million + b'a' * (million - 1) + b'.',
        b'\x80\x02N' + b'q\x01h\x01\x86' * 10**5 + b'.',
        b'\x80\x02}N' + b'q\x01h\x01\x86' * 60 + b'Ns.',
        b'\x80\x02N' + b'0' * 100 + b'.',
        b'\x80\x02]q\x00h\x00a.',
        b'\x80\x02}q\x00h\x00h\x00s.',
        b'\x80\x02Nr\xff\xff\xff\xff.',
        b'\x80\x02Np4294967295\n.',
        b'\x80\x02L' + b'9' * 10**5 + b'L\n.',
        b'\x80\x02I' + b'9' * 10**5 + b'\n.',
        b'\x80\x02\x8b\xff\xff\xff\x7f.',
        b'\x80\x02\x8b' + struct.pack('<i', million) + b'\x7f' * million + b'.',
        b'\x80\x04\x95' + b'\xff' * 8 + b'N.',
        b'\x80\x04\x95' + b'\0' * 8 + b'N.',
        b'\x80\x04\x8e' + struct.pack('<q', 2**62) + b'.',
        b'\x80\x04\x8d' + struct.pack('<q', 2**62) + b'.',
        b'\x80\x05\x96' + struct.pack('<q', 2**62) + b'.',
        b'\x80\x05\x97.',
        b'\x80\xff.',
        b'\x80\x02\x82\x01.',
        b'\x80\x02Vx\nQ.',
        b'\x80\x02}cos\nsystem\nNs.',
        b'(S"x"\nios\nsystem\n.',
        b'cos\nsystem\n(S"echo executed"\ntR.',
        b'\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.',
        b'\x80\x04' + b'\x8c\x05numpy\x8c\x07ndarray\x93' * 10**5 + b'.',
        b'cnumpy\nndarray\n)R(K\x01J\xff\xff\xff\x7f\x85NNNtb.',
        b'cscipy.sparse.coo\ncoo_matrix\n)\x81}b.',
    ]
    return out


def npy_bytes(array: np.ndarray, version: tuple[int, int] = (1, 0)) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version, allow_pickle=True)
    return buffer.getvalue()


def npy_header(text: str, version: int = 1, tail: bytes = b'\0' * 64) -> bytes:
    head = text.encode('latin1')
    length = struct.pack('<H' if version == 1 else '<I', len(head))
    return b'\x93NUMPY' + bytes([version, 0]) + length + head + tail


def hostile_npys() -> list[bytes]:
    executed = Call(os.system, 'echo executed')
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=np.zeros((1000, 1000)))
    out = [
        npy_bytes(np.array([[executed]], dtype=object)),
        npy_bytes(np.array([[executed] * 3] * 5, dtype=object), (2, 0)),
        npy_bytes(np.zeros((5, 2), dtype=[('a', '<f4'), ('b', 'O')])),
        buffer.getvalue(),
        pickle.dumps(executed, protocol=2),
        b'\x93NUMPY\x02\x00\xff\xff\xff\xff{}',
        b'\x93NUMPY\x03\x00\xff\xff\xff\xff{}',
        b'\x93NUMPY\xff\xff',
    ]
    shapes = [
        *['(2**40, 1)', '(1099511627776, 1)', '(4294967296, 4294967296)'],
        *['(9223372036854775807, 2)', '(-1, -8)', '(-5, 2)', '(0, 9999999)'],
        *['(9999999, 0)', '(5, 2, 0)', '(True, 8)', '(5.0, 2)', '5', '()'],
        *['(' + '1,' * 3000 + ')', '(' + '9' * 5000 + ', 1)', '[5, 2]'],
        *['(18446744073709551621, 2)', "('5', 2)", 'None'],
    ]
    for shape in shapes:
        for order in ('False', 'True'):
            out.append(
                npy_header(
                    f"{{'descr': '<f4', 'fortran_order': {order}, "
                    f"'shape': {shape}}}"
                )
            )
    descrs = [
        *["'|O'", "'O8'", "'<f16'", "'<c8'", "'|S0'", "'|V0'", "'<U9999999'"],
        *["'|V2147483647'", "'<M8[s]'", "'f4,f4'", "'(2,2)f4'", "''", "'>b1'"],
        *["('<f4', (2147483647,))", "[('a', 'O')]", "[('a', '<f4')] * 9", '1'],
        *["[('a', [('b', [('c', '<f4')])])]", 'None', '{}', "'<i9'", "'|b1'"],
        *["'" + 'f4,' * 2000 + "'", "('O', {})", "__import__('os').abort()"],
    ]
    for descr in descrs:
        out.append(
            npy_header(
                f"{{'descr': {descr}, 'fortran_order': False, 'shape': (5, 2)}}"
            )
        )
    for text in [
        *['-' * 60000 + '1', '(' * 60000, '[' * 150 + ']' * 150, '{' * 9000],
        *['{' + '(' * 100 + ')' * 100 + ': 1}', '"\\', "'" + '\\x' * 500 + "'"],
        *['\0' * 100, 'lambda: 0', '{**{}}', '{1, 2}', '9' * 60000, '#' * 9000],
    ]:
        out += [npy_header(text), npy_header(text, 2)]
    return out


def zip_bytes(method: int = zipfile.ZIP_DEFLATED, **files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w', method) as z:
        for name, content in files.items():
            z.writestr(name.replace('__', '/').replace('_', '.'), content)
    return buffer.getvalue()


def hostile_zips() -> list[bytes]:
    methods = [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
    nested = zip_bytes(a_npy=b'x')
    for _ in range(5):
        nested = zip_bytes(a_npy=nested)
    return [
        *[zip_bytes(method, a_npy=b'x' * 1000) for method in methods],
        zip_bytes(a_npy=b'\0' * 2**23),
        zip_bytes(______etc__a_npy=b'x', b_npy=b'x'),
        nested,
        b'PK\x05\x06' + b'\xff' * 18,
        b'PK\x05\x06' + b'\0' * 18,
        b'PK\x06\x06' + b'\xff' * 52 + b'PK\x06\x07' + b'\xff' * 16,
    ]


def hostile_jsons(valid: bytes) -> list[bytes]:
    out = [b'', b'null', b'[]', b'{}', b'"', b'1' * 10**5, b'NaN', b'\0']
    out += [b'[' * 10**5, b'{"a":' * 10**5, b'\xff\xfe{', b'{"a": 1e999}']
    sizes = [2**62, 2**31 - 1, -1, '3', None, 1.5, [3], {'a': 1}, True]
    for size in sizes:
        changed = json.loads(valid)
        for key in changed['config']:
            changed['config'][key] = size
            out.append(json.dumps(changed).encode())
        out.append(json.dumps({**json.loads(valid), 'config': size}).encode())
    return out


def table_bytes(*rows: str) -> bytes:
    return ''.join(f'{row}\n' for row in rows).encode()


def hostile_tables(header: str) -> list[bytes]:
    return [
        b'',
        b'\n' * 10**5,
        b'\t' * 10**6,
        b'a' * 10**6,
        b'\xef\xbb\xbf' * 3,
        b'\xff\xfe' + header.encode('utf-16'),
        header.encode() + b'\n' + b'\0' * 10**5,
        header.encode() + b'\n' + b'9' * 10**6,
        header.encode() + b'\n' + header.encode(),
        header.encode() + b'\t' + header.encode() + b'\n',
        (header + '\n' + '1\t' * 10**5).encode(),
    ]


def movielens_files() -> dict[str, bytes]:
    return {
        'raw/ml-100k.inter': table_bytes(
            'user_id:token\titem_id:token\trating:float\ttimestamp:float',
            *['1\t10\t5\t0', '1\t2\t3\t0', '2\t1\t4\t0', '10\t3\t2\t0'],
        ),
        'raw/ml-100k.item': table_bytes(
            'item_id:token\tmovie_title:token_seq\trelease_year:token'
            '\tclass:token_seq',
            '10\tToy Story\t1995\tAnimation Comedy',
            '2\tMisérables, Les\t1995\tDrama',
            '3\tToy Soldiers\tunkonwn\tDrama War',
            '1\tWar Story\t1997\tWar',
        ),
        'raw/ml-100k.kg': table_bytes(
            'head_id:token\trelation_id:token\ttail_id:token',
            *['m.a\tfilm.actor\tm.x', 'm.b\tfilm.actor\tm.x'],
            *['m.c\tfilm.by\tm.y', 'm.y\tfilm.film\tm.b'],
        ),
        'raw/ml-100k.link': table_bytes(
            'item_id:token\tentity_id:token', '10\tm.a', '2\tm.b', '3\tm.c'
        ),
        'raw/ml-100k.user': table_bytes(
            'user_id:token\tage:token\tgender:token\toccupation:token'
            '\tzip_code:token',
            *[f'{user}\t20\tM\tother\t0' for user in (1, 10, 2)],
        ),
    }


def tiktok_files() -> dict[str, bytes]:
    matrices = {'trnMat': 'coo', 'valMat': 'csr', 'tstMat': 'csc'}
    features = {'image': np.float16, 'audio': np.float32}
    return {
        **{
            f'raw/{name}.pkl': pickle.dumps(matrix(format), protocol=3)
            for name, format in matrices.items()
        },
        **{
            f'raw/{name}_feat.npy': npy_bytes(np.ones((5, 3), dtype))
            for name, dtype in features.items()
        },
    }


def mmrec_files() -> dict[str, bytes]:
    rows = ['1\t3\t5.0\t0', '0\t1\t5.0\t0', '0\t2\t4.0\t1', '2\t0\t1.0\t2']
    return {
        'raw/toy.inter': table_bytes('userID\titemID\trating\tx_label', *rows),
        'raw/image_feat.npy': npy_bytes(np.ones((6, 3), np.float32)),
        'raw/text_feat.npy': npy_bytes(np.ones((6, 2), np.float64)),
    }


def folder_files() -> dict[str, bytes]:
    edges = np.array([[0, 2, 1], [3, 1, 0]])
    return {
        'train.npy': npy_bytes(edges),
        'val.npy': npy_bytes(edges.T.astype(np.int32)),
        'image_feat.npy': npy_bytes(np.ones((5, 3), np.float16)),
        'text_feat.npy': npy_bytes(np.ones((5, 2), '>f4')),
    }


def parquet_files() -> dict[str, bytes]:
    columns = {'user': [0, 2, 1] * 20, 'item': list(range(60))}
    out = {}
    for compression in ('none', 'snappy', 'zstd'):
        buffer = io.BytesIO()
        pq.write_table(
            pa.table(columns),
            buffer,
            compression=compression,
            row_group_size=25,
        )
        out[f'a.parquet#{compression}'] = buffer.getvalue()
    return out


def hostile_parquets() -> list[bytes]:
    out = []
    for kind in (pa.string(), pa.list_(pa.int64()), pa.float64(), pa.null()):
        values = pa.array([None, None], kind)
        buffer = io.BytesIO()
        pq.write_table(pa.table({'user': values, 'item': values}), buffer)
        out.append(buffer.getvalue())
    # Many rows in few bytes.
    zeros = pa.array(np.zeros(2**24, np.int8))
    buffer = io.BytesIO()
    pq.write_table(pa.table({'user': zeros, 'item': zeros}), buffer)
    return [*out, buffer.getvalue(), b'PAR1' * 4, b'PAR1\xff\xff\xff\x7fPAR1']


# ----------------------------------------------------------------- targets


def check_graph(data) -> None:
    data.validate()
    size = data['user'].num_nodes, data['item'].num_nodes
    store = data['user', 'interacts', 'item']
    assert store.edge_index.size(1) > 0
    for name in ('', 'val_', 'test_'):
        edges = store[f'{name}edge_label_index' if name else 'edge_index']
        assert edges.dtype == torch.long and edges.size(0) == 2
        for index, end in zip(edges, size):
            assert ((index >= 0) & (index < end)).all()
    for key, x in data['item'].items():
        if key.startswith('x_'):
            assert x.dtype in (torch.float, torch.half)
            assert x.isfinite().all()
            assert x.dim() == 2 and x.size(0) == size[1]


class TinyTikTok(TikTok):
    # What is fuzzed is not what was published.
    checksums = {}
    url = 'file:///nowhere'


def read_tiktok(folder: Path) -> None:
    check_graph(TinyTikTok(folder, modalities=['image', 'audio'])[0])


def read_movielens(folder: Path) -> None:
    check_graph(MovieLens100K(folder, min_rating=2)[0])


def read_mmrec(folder: Path) -> None:
    check_graph(MMRecDataset(folder, 'toy')[0])


def read_folder(folder: Path) -> None:
    data = load_folder(folder)
    # A dataset has all splits.
    store = data['user', 'interacts', 'item']
    store.test_edge_label_index = store.val_edge_label_index
    check_graph(data)


def read_parquet_file(folder: Path) -> None:
    edges = load_interactions(str(folder / 'a.parquet'))
    assert edges.dtype == torch.long and edges.size(0) == 2
    assert (edges >= 0).all() and (edges < 2**31).all()


def read_pickle_file(folder: Path) -> None:
    (num_users, num_items), edges = read_pattern(str(folder / 'a.pkl'))
    assert edges.dtype == np.int64 and edges.shape[0] == 2
    assert (edges >= 0).all()
    assert (edges[0] < num_users).all() and (edges[1] < num_items).all()


def read_npy_file(folder: Path) -> None:
    x = load_features(str(folder / 'a.npy'))
    assert x.dtype == torch.float and x.dim() == 2 and x.isfinite().all()


def read_table_file(folder: Path) -> None:
    path = str(folder / 'a.inter')
    user, item = read_columns(path, ['userID', 'itemID'])
    ids = parse_column(path, 'userID', user, parse_id, 'an integer')
    assert len(user) == len(item)
    assert all(0 <= id < 2**31 for id in ids)


def read_zip_file(folder: Path) -> None:
    extract_member(str(folder / 'a.zip'), 'a.npy', str(folder / 'a.npy'))
    assert (folder / 'a.npy').is_file()


def read_torch_file(folder: Path) -> None:
    assert load_torch_file(str(folder / 'a.pt')) is not Ellipsis


def read_checkpoint_file(folder: Path) -> None:
    assert isinstance(read_checkpoint(folder / 'a.ckpt'), dict)


def read_official_checkpoint(folder: Path) -> None:
    assert isinstance(load_official_checkpoint(folder / 'a.pt'), dict)


def read_recommender(folder: Path) -> None:
    (path,) = folder.iterdir()
    recommender = Recommender.load(path)
    recommender.recommend(k=1)


def read_pretrained(folder: Path) -> None:
    DiffMM.from_pretrained(folder / 'model')


def written(write: Callable[[Path], object]) -> dict[str, bytes]:
    r"""The files that a function writes to a folder."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in Path(folder).rglob('*')
            if path.is_file()
        }


def recommender_files() -> dict[str, bytes]:
    recommender = Recommender(
        torch.ones(3, 2), torch.ones(4, 2), torch.zeros(2, 2).long()
    )
    return {
        f'{name}#{name}': content
        for suffix in SUFFIXES
        for name, content in written(
            lambda folder, s=suffix: recommender.save(folder / f'a{s}')
        ).items()
    }


def torch_bytes(value) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def with_pickle(content: bytes, inside: bytes) -> bytes:
    r"""A file of `torch.save` with another pickle inside."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as source,
        zipfile.ZipFile(buffer, 'w') as target,
    ):
        for name in source.namelist():
            is_pickle = name.endswith('data.pkl')
            target.writestr(name, inside if is_pickle else source.read(name))
    return buffer.getvalue()


def processed(read, files: dict[str, bytes]) -> tuple[str, bytes]:
    r"""The name and the content of the file that a dataset processes."""
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder), files)
        read(Path(folder))
        (path,) = (Path(folder) / 'processed').glob('*data+*.pt')
        return f'processed/{path.name}', path.read_bytes()


def is_processed(name: str) -> bool:
    return re.fullmatch(r'processed/[^/]*\.pt', name) is not None


def targets() -> dict[str, Target]:
    pickles = {
        f'a.pkl#{format}-{kind}-{protocol}': pickle.dumps(
            matrix(format, kind), protocol=protocol
        )
        for format in ('coo', 'csr', 'csc')
        for kind in ('matrix', 'array')
        for protocol in (2, 3, 4, 5)
    }
    npys = {
        f'a.npy#{dtype}-{order}-{version}': npy_bytes(
            np.ones((5, 3), dtype, order), (version, 0)
        )
        for dtype in ('f2', 'f4', '>f8', 'i4', 'b1')
        for order in 'CF'
        for version in (1, 2)
    }
    mmrec, tiktok, movielens = mmrec_files(), tiktok_files(), movielens_files()
    table = mmrec['raw/toy.inter']
    tables = hostile_tables('userID\titemID\trating\tx_label')
    state = {
        'weight': torch.ones(3, 2, dtype=torch.bfloat16),
        'history': [{'epoch': 1, 'loss': {'bpr': 0.5}}],
        'graph': {('user', 'interacts', 'item'): torch.zeros(2, 3).long()},
    }
    checkpoint = torch_bytes(state)
    name, graph = processed(read_tiktok, tiktok)
    bad_pickles, bad_npys = hostile_pickles(), hostile_npys()
    archives = {
        'a.zip#stored': zip_bytes(zipfile.ZIP_STORED, a_npy=b'x' * 100),
        'a.zip#deflated': zip_bytes(a_npy=b'x' * 100, b_npy=b'y'),
        'a.zip#folder': zip_bytes(baby__a_npy=b'x' * 100),
    }

    last = written(lambda folder: write_checkpoint(folder / 'a.ckpt', state))
    official = {
        'a.pt#weights': torch_bytes(Linear(2, 1).state_dict()),
        'a.pt#module': torch_bytes({'model': Linear(2, 1)}),
    }
    model = DiffMM(3, 4, {'image': 2}, embedding_dim=2)
    pretrained = written(lambda path: model.save_pretrained(path / 'model'))
    inside = [with_pickle(checkpoint, content) for content in bad_pickles]

    def dataset(seeds, hostile, read, beside=None) -> Target:
        return Target(
            seeds, hostile, read, beside or {}, is_processed, ['processed']
        )

    return {
        'pickle': Target(pickles, bad_pickles, read_pickle_file),
        'npy': Target(npys, bad_npys, read_npy_file),
        'table': Target({'a.inter': table}, tables, read_table_file),
        'zip': Target(
            archives,
            hostile_zips(),
            read_zip_file,
            makes='a.npy'.__eq__,
        ),
        'torch': Target(
            {'a.pt': checkpoint},
            [*inside, *bad_pickles, *hostile_zips()],
            read_torch_file,
        ),
        'checkpoint': Target(last, inside, read_checkpoint_file),
        'official': Target(official, inside, read_official_checkpoint),
        'recommender': Target(
            recommender_files(), [*bad_npys, *hostile_zips()], read_recommender
        ),
        'pretrained': Target(
            pretrained,
            hostile_jsons(pretrained['model/config.json']),
            read_pretrained,
        ),
        'tiktok': dataset(tiktok, bad_pickles + bad_npys, read_tiktok),
        'mmrec': dataset(mmrec, tables + bad_npys, read_mmrec),
        'folder': Target(folder_files(), bad_npys, read_folder),
        'parquet': Target(
            parquet_files(), hostile_parquets(), read_parquet_file
        ),
        'movielens': dataset(
            movielens,
            hostile_tables('user_id:token\titem_id:token\trating:float'),
            read_movielens,
        ),
        'processed': dataset(
            {name: graph},
            [with_pickle(graph, content) for content in bad_pickles],
            read_tiktok,
            tiktok,
        ),
    }


# ------------------------------------------------------------------ the run


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name.partition('#')[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def inputs(target: Target, count: int, seed: int):
    r"""The files of each input, of which one is not valid."""
    rng = random.Random(seed)
    others = [*target.hostile, *target.seeds.values()]
    names = list(target.seeds)
    for n in range(count):
        name = rng.choice(names)
        content = target.seeds[name]
        if n < len(target.hostile):
            content = target.hostile[n]
        elif rng.random() < 0.1:
            content = mutated(rng, rng.choice(target.hostile), others)
        else:
            content = mutated(rng, content, others)
        files = dict(target.seeds) if '#' not in name else {}
        yield {**files, name: content}


class Violation(Exception):
    pass


armed = False


def audit(event: str, args: tuple) -> None:
    if not armed:
        return
    if event == 'open':
        path, mode, flags = args
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
        if writes and not os.path.realpath(str(path)).startswith(os.getcwd()):
            flag(f'wrote to {path}')
    elif event == 'import' and args[0].startswith('encodings'):
        pass  # Of a text, as far as Python itself has it.
    elif event.startswith(FORBIDDEN):
        flag(f'{event} {args}'[:300])


flagged: list[str] = []


def flag(what: str) -> None:
    # An exception alone may be caught by the reader.
    flagged.append(what)
    raise Violation(what)


def on_alarm(*_) -> None:
    flag(f'took more than {SECONDS_PER_INPUT} s')


def run(target: Target, count: int, seed: int, folder: Path) -> dict:
    r"""Reads all inputs in this process, which is not to be used after."""
    global armed
    warnings.simplefilter('ignore')
    os.chdir(folder)
    work = folder / 'work'

    # What is valid is read, and whatever is imported lazily is imported.
    for name in target.seeds:
        files = {**target.seeds} if '#' not in name else {}
        prepare(work, {**files, name: target.seeds[name]}, target)
        target.read(work)

    for module in pkgutil.iter_modules(encodings.__path__):
        with suppress(ImportError):  # Of other systems.
            importlib.import_module(f'encodings.{module.name}')

    with open('/proc/self/statm') as f:
        in_use = int(f.read().split()[0]) * resource.getpagesize()
    for limit, value in [
        (resource.RLIMIT_AS, in_use + MAX_MEMORY),
        (resource.RLIMIT_FSIZE, MAX_FILE),
        (resource.RLIMIT_CORE, 0),
    ]:
        resource.setrlimit(limit, (value, value))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # An `OSError` instead.
    signal.signal(signal.SIGPROF, on_alarm)
    sys.addaudithook(audit)

    out = {'read': 0, 'refused': 0, 'violations': []}
    for n, files in enumerate(inputs(target, count, seed)):
        before = prepare(work, files, target)
        flagged.clear()
        problem = None
        # Of its own time: a machine may be busy.
        signal.setitimer(signal.ITIMER_PROF, SECONDS_PER_INPUT)
        armed = True
        try:
            target.read(work)
            was_read = True
        except ValueError as error:
            was_read = False
            if str(work) not in str(error):
                problem = f'an error that names no file: {error}'
            elif len(str(error)) > 5000:
                problem = f'an error of {len(str(error))} characters'
        except BaseException:
            was_read = False
            problem = traceback.format_exc()
        armed = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        if flagged:
            problem = f'did what it must not: {flagged}'
        left = names_in(work) - before - {*target.makes_anyway}
        if was_read:
            left = {name for name in left if not target.makes(name)}
        if left:
            problem = problem or f'left {sorted(left)} behind'
        out['read' if was_read else 'refused'] += 1
        if problem is not None:
            kept = folder / f'input-{n}'
            shutil.copytree(work, kept)
            out['violations'].append({'input': str(kept), 'problem': problem})
            if len(out['violations']) >= 20:
                break
    out['megabytes'] = (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**10
    )
    return out


def prepare(work: Path, files: dict[str, bytes], target: Target) -> set[str]:
    if work.exists():
        shutil.rmtree(work)
    write_files(work, {**target.beside, **files})
    return names_in(work)


def names_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob('*')}


def fuzz(target: Target, count: int, seed: int, folder: Path) -> dict:
    r"""Runs a target in a process of its own."""
    folder.mkdir(parents=True)
    start = time.perf_counter()
    result = folder / 'result.json'
    pid = os.fork()
    if pid == 0:
        try:
            out = run(target, count, seed, folder.resolve())
            result.write_text(json.dumps(out))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if result.exists():
        out = json.loads(result.read_text())
    else:
        problem = f'the process ended with status {status}'
        input = str(folder / 'work')
        out = {'violations': [{'input': input, 'problem': problem}]}
    return {**out, 'seconds': round(time.perf_counter() - start, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('targets', nargs='*', metavar='TARGET')
    parser.add_argument('--count', type=int, default=10_000)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--folder', type=Path, help='must not be there')
    args = parser.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp()) / 'fuzz'
    torch.set_num_threads(1)
    os.environ['PYTEST_CURRENT_TEST'] = 'fuzz'  # PyG is silent then.
    failed = False
    every = targets()
    for name in args.targets or every:
        out = fuzz(every[name], args.count, args.seed, folder / name)
        print(json.dumps({'target': name, **out}), flush=True)
        failed |= bool(out['violations'])
    sys.exit(failed)


if __name__ == '__main__':
    main()
