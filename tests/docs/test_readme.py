import re
from pathlib import Path

import torch

from diffmm_geo import datasets

ROOT = Path(__file__).parents[2]
README = (ROOT / 'README.md').read_text()


def test_snippets_run(planted, monkeypatch):
    r"""All snippets, one after the other, on a small graph."""
    monkeypatch.setattr(
        datasets,
        'MovieLens100K',
        lambda root, modalities: [planted(modalities=modalities)],
    )
    names = {}
    snippets = re.findall(r'```python\n(.*?)```', README, re.DOTALL)
    assert len(snippets) == 2
    for snippet in snippets:
        exec(snippet, names)
    assert names['user_emb'].size() == (32, 64)
    assert names['item_emb'].size() == (24, 64)
    observed = names['trainer'].edge_index
    assert names['items'].size() == (32, 10)
    seen = torch.zeros(32, 24).index_put_(tuple(observed), torch.tensor(1.0))
    assert not seen.gather(1, names['items']).any()


def test_files_exist_and_it_is_short():
    links = re.findall(r'\]\(([^)#:]+)(?:#[^)]*)?\)', README)
    files = re.findall(r'`(examples/[^`]*)`', README)
    assert links and files
    for name in links + files:
        assert (ROOT / name).exists(), name
    assert README.count('\n') <= 120
