import json

import numpy as np
import pytest
import torch

METRICS = {'recall@20', 'precision@20', 'ndcg@20'}
PHASES = {'diffusion', 'generate', 'recommend', 'evaluate'}


def test_writes_metrics_curves_and_model(run_example, shop, tmp_path):
    args = ('--root', shop, '--dataset', 'shop', '--output', tmp_path)
    args = (*args, '--preset', 'paper', '--epochs', 3)
    out = run_example('diffmm.py', *args, new_process=True)
    assert out.returncode == 0, out.stderr
    names = ['curves.png', 'metrics.json', 'model', 'model.pt']
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    for best in ('best_val', 'best_test'):
        assert set(metrics[best]) == {'epoch', 'val', 'test'}
        assert 1 <= metrics[best]['epoch'] <= 3
        assert METRICS <= set(metrics[best]['test'])
    recalls = [r['val']['recall@20'] for r in metrics['history']]
    chosen = metrics['best_val']['epoch'] - 1
    assert recalls[chosen] == max(recalls)
    assert [set(s) for s in metrics['epoch_seconds']] == 3 * [PHASES]
    assert metrics['config']['num_epochs'] == 3
    assert metrics['versions']['torch'] == torch.__version__
    state = torch.load(tmp_path / 'model.pt', weights_only=True)
    assert set(state) == {'model', 'diffusion', 'edge_index_dict'}


def test_best_preset(run_example, shop, tmp_path):
    r"""It is the default where there is no recipe."""
    args = ('--root', shop, '--dataset', 'shop', '--output', tmp_path)
    out = run_example('diffmm.py', *args, '--epochs', 2)
    assert out.returncode == 0, out.stderr
    assert {p.name for p in tmp_path.iterdir()} == {'metrics.json', 'model.pt'}
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    assert METRICS <= set(metrics['best_val']['test'])
    names = [record['name'] for record in metrics['history']]
    assert names == [*metrics['weights'], 'ensemble']
    out = run_example('diffmm.py', *args, '--preset', 'best', '--resume')
    assert out.returncode == 2 and 'resume' in out.stderr


def test_resume(run_example, shop, tmp_path):
    args = ('--root', shop, '--dataset', 'shop', '--output', tmp_path / 'out')
    args = (*args, '--checkpoint-dir', tmp_path / 'checkpoints', '--resume')
    for epochs, numbers in ((1, ['1']), (3, ['2', '3'])):
        out = run_example('diffmm.py', *args, '--epochs', epochs)
        assert out.returncode == 0, out.stderr
        lines = [x for x in out.stdout.splitlines() if x.startswith('Epoch ')]
        assert [x.split()[1].rstrip(':') for x in lines] == numbers


@pytest.mark.parametrize(
    ('preset', 'chosen'), [('paper', ' (epoch 1)'), ('best', '')]
)
def test_data_without_a_test_split(run_example, tmp_path, preset, chosen):
    pairs = np.array([np.arange(60) % 12, np.arange(60) * 7 % 30])
    np.save(tmp_path / 'train.npy', pairs[:, :50])
    np.save(tmp_path / 'val.npy', pairs[:, 50:])
    np.save(tmp_path / 'image_feat.npy', np.ones((30, 4), np.float32))
    args = ('--root', tmp_path, '--dataset', 'folder', '--preset', preset)
    args = (*args, '--epochs', 1, '--output', tmp_path / 'out')
    out = run_example('diffmm.py', *args)
    assert out.returncode == 0, out.stderr
    assert f'Chosen by validation{chosen}: val recall@20' in out.stdout
