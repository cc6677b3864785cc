import json


def test_alone(run_example, shop, tmp_path):
    out = run_example(
        'distributed.py',
        *('--root', shop, '--dataset', 'shop', '--epochs', 2),
        *('--checkpoint-dir', tmp_path / 'checkpoints'),
        *('--output', tmp_path / 'out'),
    )
    assert out.returncode == 0, out.stderr
    lines = out.stdout.splitlines()
    assert lines[0].startswith('1 processes on cpu')
    assert [x.split()[1] for x in lines[1:3]] == ['1:', '2:']
    metrics = json.loads((tmp_path / 'out' / 'metrics.json').read_text())
    assert len(metrics['history']) == 2
    assert (tmp_path / 'checkpoints' / 'last.ckpt').exists()


def test_one_line_for_a_wrong_argument(run_example, shop, tmp_path):
    out = run_example(
        'distributed.py',
        *('--root', shop, '--dataset', 'shop', '--timeout', 0),
        *('--output', tmp_path / 'out'),
    )
    assert out.returncode != 0
    assert out.stderr.startswith("error: 'timeout'")
    assert not (tmp_path / 'out').exists()
