import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

SCRIPT = Path(__file__).parents[2] / 'examples' / 'diffmm.py'
PHASES = {'diffusion', 'generate', 'recommend', 'evaluate'}


@pytest.fixture(scope='module')
def root(tmp_path_factory):
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


def run(root, *args):
    return subprocess.run(
        [sys.executable, SCRIPT, '--root', root, *map(str, args)],
        capture_output=True,
        text=True,
    )


def test_writes_metrics_curves_and_model(root, tmp_path):
    out = run(root, '--dataset', 'shop', '--epochs', 3, '--output', tmp_path)
    assert out.returncode == 0, out.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        'curves.png',
        'metrics.json',
        'model.pt',
    ]
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    for best in ('best_val', 'best_test'):
        assert set(metrics[best]) == {'epoch', 'val', 'test'}
        assert 1 <= metrics[best]['epoch'] <= 3
        assert {'recall@20', 'precision@20', 'ndcg@20'} <= set(
            metrics[best]['test']
        )
    recalls = [r['val']['recall@20'] for r in metrics['history']]
    chosen = metrics['best_val']['epoch'] - 1
    assert recalls[chosen] == max(recalls)
    assert [set(s) for s in metrics['epoch_seconds']] == 3 * [PHASES]
    assert metrics['config']['num_epochs'] == 3
    assert metrics['versions']['torch'] == torch.__version__
    state = torch.load(tmp_path / 'model.pt', weights_only=True)
    assert set(state) == {'model', 'diffusion', 'edge_index_dict'}


@pytest.mark.parametrize(
    'args, message',
    [
        (('--dataset', 'shpo'), "'shpo'"),
        (('--dataset', 'shop', '--modalities', 'imgae'), 'imgae'),
        (('--dataset', 'shop', '--device', 'cuda:99'), "'device'"),
        (('--dataset', 'shop', '--epochs', 0), "'num_epochs'"),
    ],
)
def test_one_line_for_a_wrong_argument(root, tmp_path, args, message):
    out = run(root, *args, '--output', tmp_path / 'out')
    assert out.returncode != 0
    assert message in out.stderr and 'Traceback' not in out.stderr
    assert not (tmp_path / 'out').exists()
