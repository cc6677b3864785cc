import json
import sys
from importlib import import_module

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
