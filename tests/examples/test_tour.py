import json
import re

import numpy as np
import pytest

from tests.examples.conftest import EXAMPLES

NUM = 80  # Numbers of users and of movies.


@pytest.fixture(scope='module')
def tour():
    return json.loads((EXAMPLES / 'tour.ipynb').read_text(encoding='utf-8'))


@pytest.fixture
def movies(tmp_path):
    r"""A folder with the files that MovieLens-100K downloads."""
    rng = np.random.default_rng(0)
    raw = tmp_path / 'movielens-100k' / 'raw'
    raw.mkdir(parents=True)
    tables = {
        'item': [
            'item_id:token\tmovie_title:token_seq\trelease_year:token\t'
            'class:token_seq',
            *(
                f'{i}\tStory {i % 7} of {i}\t19{50 + i}\t'
                f'{"War" if i % 2 else "Comedy"}'
                for i in range(1, NUM + 1)
            ),
        ],
        'inter': [
            'user_id:token\titem_id:token\trating:float\ttimestamp:float',
            *(
                f'{u}\t{2 * i + u % 2 + 1}\t5\t0'
                for u in range(1, NUM + 1)
                for i in rng.permutation(NUM // 2)[:12]
            ),
        ],
        'user': ['user_id:token', *map(str, range(1, NUM + 1))],
        'kg': ['head_id:token\trelation_id:token\ttail_id:token'],
        'link': ['item_id:token\tentity_id:token'],
    }
    for name, lines in tables.items():
        (raw / f'ml-100k.{name}').write_text('\n'.join(lines) + '\n')
    return tmp_path


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
