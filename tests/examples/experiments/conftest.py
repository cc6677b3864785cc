import json
import sys
from importlib import import_module

import numpy as np
import pytest

from examples.experiments.experiment import start


@pytest.fixture
def run_experiment(monkeypatch, capsys, shop, tmp_path):
    r"""Runs an experiment in this process, by default on the shop."""

    def run(name, *args, dataset='shop', root=shop, epochs=2):
        where = ('--dataset', dataset, '--root', root, '--epochs', epochs)
        folders = ('--runs', tmp_path / 'runs', '--output', tmp_path / 'out')
        words = [name, *where, *folders, *args]
        monkeypatch.setattr(sys, 'argv', [str(word) for word in words])
        capsys.readouterr()  # Discards earlier output.
        start(import_module(f'examples.experiments.{name}').main)
        return capsys.readouterr().out

    return run


@pytest.fixture
def report(tmp_path):
    r"""The JSON and the page of an experiment, whose figure exists."""

    def read(stem):
        folder = tmp_path / 'out'
        assert sorted(p.name for p in folder.glob(f'{stem}*')) == [
            f'{stem}.{suffix}' for suffix in ('json', 'md', 'png')
        ]
        picture = (folder / f'{stem}.png').read_bytes()
        assert picture.startswith(b'\x89PNG')
        content = json.loads((folder / f'{stem}.json').read_text())
        page = (folder / f'{stem}.md').read_text()
        # The command does not show local folders.
        assert str(tmp_path) not in page + json.dumps(content)
        assert (
            '--root ROOT' in content['command'] and content['command'] in page
        )
        return content, page

    return read


@pytest.fixture(scope='session')
def cold_shop(shop, tmp_path_factory):
    r"""The shop with 25 further items without training interactions."""
    root = tmp_path_factory.mktemp('cold')
    (root / 'raw').mkdir()
    text = (shop / 'raw' / 'shop.inter').read_text()
    text += ''.join(f'{n}\t{40 + n}\t1\t0\t2\n' for n in range(25))
    (root / 'raw' / 'cold.inter').write_text(text)
    rng = np.random.default_rng(1)
    for name in ('image', 'text'):
        x = np.load(shop / 'raw' / f'{name}_feat.npy')
        new = rng.normal(size=(25, 8)).astype(np.float32)
        np.save(root / 'raw' / f'{name}_feat.npy', np.concatenate([x, new]))
    return root
