import re

import pytest
import torch_geometric.typing

HAS_SAMPLER = (
    torch_geometric.typing.WITH_TORCH_SPARSE
    or torch_geometric.typing.WITH_PYG_LIB
)


@pytest.mark.skipif(not HAS_SAMPLER, reason='needs torch-sparse or pyg-lib')
def test_learns(run_example, shop):
    out = run_example(
        'neighbor_batches.py', '--root', shop, '--dataset', 'shop'
    )
    assert out.returncode == 0, out.stderr
    losses = [float(x) for x in re.findall(r'loss (\d\.\d+)', out.stdout)]
    assert len(losses) == 10
    assert losses[-1] < losses[0]


def test_one_line_without_a_sampler(run_example, shop, monkeypatch):
    for name in ('WITH_TORCH_SPARSE', 'WITH_PYG_LIB'):
        monkeypatch.setattr(torch_geometric.typing, name, False)
    out = run_example(
        'neighbor_batches.py',
        *('--root', shop, '--dataset', 'shop', '--epochs', 1),
    )
    assert out.returncode != 0
    line = out.stderr.splitlines()[-1]
    assert line.startswith('error: ') and 'torch-sparse' in line
