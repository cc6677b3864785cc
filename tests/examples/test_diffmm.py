import json
import sys

import numpy as np
import pytest
import torch

PHASES = {'diffusion', 'generate', 'recommend', 'evaluate'}


def test_writes_metrics_curves_and_model(run_example, shop, tmp_path):
    args = ('--root', shop, '--dataset', 'shop', '--output', tmp_path)
    out = run_example(
        'diffmm.py', *args, '--preset', 'paper', '--epochs', 3, new_process=True
    )
    assert out.returncode == 0, out.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        'curves.png',
        'metrics.json',
        'model',
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


def test_best_preset(run_example, shop, tmp_path):
    r"""It is the default where there is no recipe."""
    args = ('--root', shop, '--dataset', 'shop', '--output', tmp_path)
    out = run_example('diffmm.py', *args, '--epochs', 2)
    assert out.returncode == 0, out.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        'metrics.json',
        'model.pt',
    ]
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    assert {'recall@20', 'ndcg@20'} <= set(metrics['best_val']['test'])
    names = [record['name'] for record in metrics['history']]
    assert names == [*metrics['weights'], 'ensemble']
    out = run_example('diffmm.py', *args, '--preset', 'best', '--resume')
    assert out.returncode == 2 and 'resume' in out.stderr


@pytest.mark.parametrize(
    'args, message',
    [
        (('--dataset', 'shpo'), "'shpo'"),
        (('--dataset', 'shop', '--modalities', 'imgae'), 'imgae'),
        (('--dataset', 'shop', '--device', 'cuda:99'), "'device'"),
        (('--dataset', 'shop', '--epochs', 0), "'num_epochs'"),
    ],
)
def test_one_line_for_a_wrong_argument(
    run_example, shop, tmp_path, args, message
):
    out = run_example(
        'diffmm.py', '--root', shop, *args, '--output', tmp_path / 'out'
    )
    assert out.returncode != 0
    assert message in out.stderr and 'Traceback' not in out.stderr
    assert not (tmp_path / 'out').exists()


def test_resume(run_example, shop, tmp_path):
    args = ('--root', shop, '--dataset', 'shop', '--output', tmp_path / 'out')
    args = (*args, '--checkpoint-dir', tmp_path / 'checkpoints', '--resume')
    for epochs, numbers in ((1, ['1']), (3, ['2', '3'])):
        out = run_example('diffmm.py', *args, '--epochs', epochs)
        assert out.returncode == 0, out.stderr
        lines = [x for x in out.stdout.splitlines() if x.startswith('Epoch ')]
        assert [x.split()[1].rstrip(':') for x in lines] == numbers


@pytest.mark.parametrize(
    ('script', 'package'),
    [
        ('diffmm.py', 'matplotlib'),
        ('diffmm.py', 'safetensors'),
        ('demo.py', 'matplotlib'),
    ],
)
def test_missing_packages_are_noticed_before_training(
    run_example, shop, tmp_path, monkeypatch, script, package
):
    monkeypatch.setitem(sys.modules, package, None)
    args = ('--root', shop, '--output', tmp_path / 'out', '--epochs', 1)
    if script != 'demo.py':
        args = (*args, '--dataset', 'shop')
    out = run_example(script, *args)
    assert out.returncode == 1
    assert "pip install 'diffmm_geo[examples]'" in out.stderr
    assert package in out.stderr and out.stderr.count('\n') == 1
    assert 'Epoch' not in out.stdout and not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    'script, chosen',
    [
        (('diffmm.py', '--preset', 'paper'), ' (epoch 1)'),
        (('diffmm.py', '--preset', 'best'), ''),
    ],
)
def test_data_without_a_test_split(run_example, tmp_path, script, chosen):
    pairs = np.array([np.arange(60) % 12, np.arange(60) * 7 % 30])
    np.save(tmp_path / 'train.npy', pairs[:, :50])
    np.save(tmp_path / 'val.npy', pairs[:, 50:])
    np.save(tmp_path / 'image_feat.npy', np.ones((30, 4), np.float32))
    args = ('--root', tmp_path, '--dataset', 'folder', '--epochs', 1)
    out = run_example(*script, *args, '--output', tmp_path / 'out')
    assert out.returncode == 0, out.stderr
    assert f'Chosen by validation{chosen}: val recall@20' in out.stdout
