r"""Reads mutations of valid and of hostile files with each file reader.

    python -m tests.datasets.fuzz --count 10000 --folder runs/fuzz [READER ...]

Each file is either read, or refused with a `ValueError` that names it.
Neither may execute anything in it or leave a partial file behind. Inputs
follow from the number of the seed alone, and those that fail are kept.
"""

import argparse
import gzip
import io
import json
import os
import pickle
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
import zipfile
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from scipy import sparse

from diffmm_geo.datasets import MMRecDataset, read_interactions, write_mmrec
from diffmm_geo.datasets._download import extract_member
from diffmm_geo.datasets._modality_files import read_features
from diffmm_geo.datasets._table import read_columns
from diffmm_geo.datasets._unpickle import read_pattern
from diffmm_geo.datasets._user_item_data import user_item_data
from diffmm_geo.datasets.folder import load_interactions
from diffmm_geo.nn import DiffMM
from diffmm_geo.recommender import Recommender
from diffmm_geo.training.checkpoint import read_checkpoint, write_checkpoint
from diffmm_geo.utils.torch_file import load_torch_file
from tests.pickled_call import PickledCall

# A file of a few bytes may ask for any amount of memory.
MAX_MEMORY, MAX_SECONDS = 2**30, 60
FORBIDDEN = (
    *['ctypes', 'exec', 'import', 'os.exec', 'os.fork', 'os.kill'],
    *['os.posix_spawn', 'os.putenv', 'os.spawn', 'os.system'],
    *['pickle.find_class', 'socket', 'subprocess.Popen', 'urllib'],
)
WORDS = [
    *[n.to_bytes(8, 'little') for n in (2**16, 2**31, 2**40, 2**64 - 1)],
    *[b'\0', b'\xff', b'\n', b'\t', b'-1', b'nan', b'9' * 40, b'0x10', b'1.5'],
    *[b'cos\nsystem\n', b'\x8c\x02os\x8c\x06system\x93', b'R', b'b', b'\x85'],
    *[b'PK\x03\x04', b'\x93NUMPY\x01\x00', b'|O', b'<f8', b'../', b'}', b'('],
]


def mutate(rng, content, others):
    r"""Replaces a part, often inside of an archive with right checksums."""
    if content.startswith(b'PK') and rng.random() < 0.7:
        with suppress(Exception):
            return change_member(rng, content, others)
    for _ in range(rng.choice([1, 1, 2, 4])):
        start = rng.randrange(len(content) + 1)
        stop = min(len(content), start + int(2 ** (rng.random() * 8)) - 1)
        part = bytearray(content[start:stop])
        if part:
            part[rng.randrange(len(part))] ^= 1 << rng.randrange(8)
        other = rng.choice(others)
        place = rng.randrange(len(other) + 1)
        new = rng.choice(
            [
                *[part, part, b'', part * 2, rng.randbytes(len(part))],
                *[rng.choice(WORDS), other[place : place + 64]],
            ]
        )
        rest = content[stop:] if rng.random() < 0.9 else b''
        content = content[:start] + new + rest
    return content


def change_member(rng, content, others):
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as source,
        zipfile.ZipFile(buffer, 'w') as target,
    ):
        infos = source.infolist()
        changed = rng.choice(infos)
        for info in infos:
            inside = source.read(info)
            if info is changed:
                inside = mutate(rng, inside, others)
            target.writestr(info, inside, info.compress_type)
    return buffer.getvalue()


def matrix(format='coo', kind='matrix', **changes):
    row, col = np.array([0, 0, 1, 3], np.int32), np.array([1, 3, 0, 4])
    out = sparse.coo_matrix((np.ones(4), (row, col)), (4, 5))
    out = getattr(sparse, f'{format}_{kind}')(out)
    vars(out).update(changes)
    return out


def saved(save, value):
    buffer = io.BytesIO()
    save(buffer, value)
    return buffer.getvalue()


def hostile_files():
    calls = [
        PickledCall(os.system, 'echo executed'),
        PickledCall(open, 'executed', 'w'),
        PickledCall(eval, '__import__("os").abort()'),
        PickledCall(bytearray, 2**40),
        PickledCall(np.empty, (2**20, 2**20)),
    ]
    pickles = [pickle.dumps(c, protocol=p) for c in calls for p in (0, 2, 4)]
    pickles += [pickle.dumps(matrix(data=call)) for call in calls]
    torches = [saved(lambda f, x: torch.save(x, f), call) for call in calls]
    npys = [saved(np.save, np.array([call], object)) for call in calls]
    return [*pickles, *torches, *npys, saved(np.savez, [1])]


def readers():
    r"""For each name: forms of valid files, and what reads them."""
    edges = torch.tensor([[3, 2, 1], [4, 1, 0]])
    features = {'m': torch.ones(5, 2)}
    data = user_item_data('', 4, 5, features, {'edge_index': edges})
    model = DiffMM(3, 4, {'image': 2}, embedding_dim=2)
    recommender = Recommender(torch.ones(3, 2), torch.ones(4, 2))
    state = {'x': torch.ones(3), 'graph': {('a', 'b'): [0.5, None, 'x']}}
    parquet = pa.table({'user': [0, 2, 1] * 9, 'item': range(27)})
    columns = [('userID', 'uint32'), ('title', 'string')]
    kinds = [(f, k) for f in ('coo', 'csr', 'csc') for k in ('matrix', 'array')]

    def written(write):
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder))
            return {
                str(path.relative_to(folder)): path.read_bytes()
                for path in Path(folder).rglob('*')
                if path.is_file()
            }

    def forms(write, *values, name='a'):
        return [written(lambda f, v=v: write(f / name, v)) for v in values]

    def save_array(path, x):
        with open(path, 'wb') as f:
            np.save(f, x)

    def zipped(path, method):
        with zipfile.ZipFile(path, 'w', method) as z:
            z.writestr('folder/a.npy', b'x' * 100)

    def columnar(path, method):
        pq.write_table(parquet, path, compression=method)

    arrays = [np.ones((5, 3), t) for t in ('f2', 'f4', '>f8', 'i4', 'b1')]
    pickles = [pickle.dumps(matrix(*k), p) for k in kinds for p in (2, 3, 5)]
    csv = b'user,"item",time\na,"b,c",3\nd,e,4\na,e,5\na,e,2\n'
    lists = b'3 4 5 6\n2 5\n\n7\n'
    table = b'userID\ttitle\titemID\n0\ta b\t3\n1\t"\t2\n'
    methods = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
    files = {
        'pickle': forms(Path.write_bytes, *pickles),
        'npy': forms(save_array, *arrays, name='a_feat.npy'),
        'interactions': forms(save_array, edges.numpy()),
        'parquet': forms(columnar, 'none', 'snappy', name='a.parquet'),
        'table': forms(Path.write_bytes, table),
        'csv': forms(Path.write_bytes, csv, gzip.compress(csv)),
        'lists': forms(Path.write_bytes, lists, gzip.compress(lists)),
        'zip': forms(zipped, *methods),
        'torch': forms(lambda path, x: torch.save(x, path), state),
        'checkpoint': forms(write_checkpoint, state),
        'recommender': forms(
            lambda path, x: x.save(path), recommender, name='a.npz'
        ),
        'pretrained': forms(lambda path, x: x.save_pretrained(path), model),
        'mmrec': forms(lambda f, x: write_mmrec(x, f, 'toy'), data, name='raw'),
    }
    read = {
        'pickle': on('a', read_pattern),
        'npy': lambda f: read_features(str(f), ['a'], mapped=True),
        'interactions': on('a', load_interactions),
        'parquet': on('a.parquet', load_interactions),
        'table': on('a', partial(read_columns, columns=columns)),
        'csv': on('a', partial(read_interactions, time='time')),
        'lists': on('a', partial(read_interactions, lists=True)),
        'zip': on(
            'a', lambda path: extract_member(path, 'a.npy', f'{path}.npy')
        ),
        'torch': on('a', load_torch_file),
        'checkpoint': on('a', read_checkpoint),
        'recommender': on('a.npz', Recommender.load),
        'pretrained': on('a', DiffMM.from_pretrained),
        'mmrec': lambda folder: MMRecDataset(folder, 'toy')[0].validate(),
    }
    return {name: (files[name], read[name]) for name in files}


def on(name, read):
    return lambda folder: read(str(folder / name))


flagged: list[str] | None = None  # Events since it was set to a list.


def audit(event, args):
    if flagged is None:
        return
    what = f'{event} {args}'[:300]
    if event == 'open':
        path, _, flags = args
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
        inside = os.path.realpath(str(path)).startswith(os.getcwd())
        if not writes or inside:
            return
    elif not event.startswith(FORBIDDEN) or 'encodings' in what:
        return
    flagged.append(what)
    raise PermissionError(what)


def problem_of(read, folder):
    r"""Whether the files were read, and the problem, if any."""
    global flagged
    before, flagged = set(folder.rglob('*')), []
    problem, was_read = None, False
    signal.alarm(MAX_SECONDS)  # Ends the process.
    try:
        read(folder)
        was_read = True
    except ValueError as error:
        if str(folder) not in str(error):
            problem = f'an error that names no file: {error}'
    except BaseException:
        problem = traceback.format_exc()
    signal.alarm(0)
    done, flagged = flagged, None
    left = [
        str(path)
        for path in set(folder.rglob('*')) - before
        if path.is_file() and not was_read or path.suffix == '.tmp'
        if not path.name.startswith('pre_')  # PyG's, of each dataset.
    ]
    if done or left:
        problem = f'did {done}, left {left}'
    return was_read, problem


def fuzz(valid, read, hostile, count, folder):
    r"""Reads `count` mutated inputs in a folder."""
    rng = random.Random(0)
    work = folder / 'work'
    out = {'read': 0, 'refused': 0, 'problems': []}
    others = [*hostile, *(c for files in valid for c in files.values())]
    for n in range(-len(valid), count):
        files = dict(valid[n % len(valid)])
        name = rng.choice(list(files))
        if 0 <= n < len(hostile):
            files[name] = hostile[n]
        elif n >= 0:
            files[name] = mutate(rng, files[name], others)
        shutil.rmtree(work, ignore_errors=True)
        for name, content in files.items():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).write_bytes(content)
        if n < 0:
            read(work)  # Valid, and imports what it needs.
            continue
        was_read, problem = problem_of(read, work)
        out['read' if was_read else 'refused'] += 1
        if problem is not None:
            kept = shutil.copytree(work, folder / f'input-{n}')
            out['problems'].append(f'{kept}: {problem}')
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('readers', nargs='*', metavar='READER')
    parser.add_argument('--count', type=int, default=10_000)
    parser.add_argument('--folder', type=Path, required=True)
    args = parser.parse_args()
    args.folder.mkdir(parents=True)
    os.chdir(args.folder)
    os.environ['PYTEST_CURRENT_TEST'] = 'fuzz'  # PyG is silent then.
    warnings.simplefilter('ignore')
    torch.set_num_threads(1)
    every, hostile = readers(), hostile_files()
    with open('/proc/self/statm') as f:
        in_use = int(f.read().split()[0]) * resource.getpagesize()
    limit = in_use + MAX_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    sys.addaudithook(audit)
    for name in args.readers or every:
        folder = Path.cwd() / name
        out = fuzz(*every[name], hostile, args.count, folder)
        print(json.dumps({'reader': name, **out}), flush=True)


if __name__ == '__main__':
    main()
