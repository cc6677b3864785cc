import json
import re

import pytest

from tests.examples.conftest import EXAMPLES


@pytest.fixture(scope='module')
def tour():
    return json.loads((EXAMPLES / 'tour.ipynb').read_text(encoding='utf-8'))


def test_runs(tour, movies, monkeypatch, capsys):
    cells = [
        ''.join(cell['source'])
        for cell in tour['cells']
        if cell['cell_type'] == 'code'
    ]
    monkeypatch.chdir(movies)
    monkeypatch.setenv('DIFFMM_GEO_DATA', str(movies))
    monkeypatch.setenv('DIFFMM_GEO_EPOCHS', '5')
    monkeypatch.setattr('matplotlib.pyplot.show', lambda: None)
    exec(compile('\n\n'.join(cells), 'tour.ipynb', 'exec'), {})
    out = capsys.readouterr().out
    assert 'epoch   5: validation recall@20' in out
    assert out.rstrip().splitlines()[-1].strip().startswith('Story')


def test_outputs_are_those_of_one_clean_run(tour):
    assert tour['nbformat'] == 4
    cells = [c for c in tour['cells'] if c['cell_type'] == 'code']
    counts = [cell['execution_count'] for cell in cells]
    assert counts == list(range(1, len(cells) + 1))
    for cell in cells:
        for output in cell['outputs']:
            assert output['output_type'] != 'error'
            assert output.get('name') != 'stderr'
    text = json.dumps(tour)
    assert len(text) < 100_000
    # No local paths.
    assert not re.search(r'(?<![\w.:/])/(home|root|tmp|work|usr)/', text)
