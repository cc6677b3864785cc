import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / 'examples'


@pytest.fixture(scope='session')
def shop(tmp_path_factory):
    r"""A small data set in MMRec's format: two tastes, 40 items."""
    root = tmp_path_factory.mktemp('shop')
    (root / 'raw').mkdir()
    rng = np.random.default_rng(0)
    lines = ['userID\titemID\trating\ttimestamp\tx_label']
    for user in range(30):
        items = user % 2 + 2 * rng.permutation(20)[:6]
        for n, item in enumerate(items):
            lines.append(f'{user}\t{item}\t1\t0\t{max(0, n - 3)}')
    (root / 'raw' / 'shop.inter').write_text('\n'.join(lines) + '\n')
    for name in ('image', 'text'):
        x = rng.normal(size=(40, 8)).astype(np.float32)
        np.save(root / 'raw' / f'{name}_feat.npy', x)
    return root


@pytest.fixture(scope='session')
def run_example():
    # PyTorch 2.14 warns of what PyG 2.8 does when it is imported.
    ignored = 'ignore:`torch.jit.script` is deprecated:FutureWarning'
    env = {**os.environ, 'PYTHONWARNINGS': ignored}

    def run(name, *args):
        return subprocess.run(
            [sys.executable, EXAMPLES / name, *map(str, args)],
            capture_output=True,
            text=True,
            env=env,
        )

    return run
