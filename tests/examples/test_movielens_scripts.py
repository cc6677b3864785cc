import re

import pytest


@pytest.mark.parametrize(
    ('script', 'recalls'),
    [
        ('custom_gnn.py', [r'val recall@20', r'test recall@20']),
        ('denoise_graph.py', [r'Observed: .*test', r'generated: .*test']),
        ('item_graph_gcn.py', [r'Epoch 1: .*val', r'Test']),
    ],
)
def test_one_epoch(run_example, movies, script, recalls):
    root = movies / 'movielens-100k'
    out = run_example(script, '--root', root, '--epochs', 1)
    assert out.returncode == 0, out.stderr
    for pattern in recalls:
        (value,) = re.findall(rf'{pattern}.*? (0\.\d{{4}})', out.stdout)
        assert 0 < float(value) < 1


def test_demo(run_example, movies, tmp_path):
    args = ('--root', movies, '--output', tmp_path / 'out', '--epochs', 1)
    out = run_example('demo.py', *args)
    assert out.returncode == 0, out.stderr
    assert len(re.findall(r'^ +\d+\. Story', out.stdout, re.M)) == 20
    for model in ('lightgcn', 'diffmm'):
        names = {p.name for p in (tmp_path / 'out' / model).iterdir()}
        assert {'metrics.json', 'curves.png', 'model.pt'} <= names
