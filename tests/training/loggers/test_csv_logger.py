import csv
import os

import pytest

from diffmm_geo.training import CSVLogger, DiffMMConfig, DiffMMTrainer


def record(epoch, **loss):
    return {
        'epoch': epoch,
        'loss': {'bpr': epoch / 3, **loss},
        'val': {'recall@20': 0.5},
        'seconds': {'generate': 1e-7},
    }


def read(path):
    with open(path, newline='') as f:
        return list(csv.DictReader(f))


def test_a_row_an_epoch(tmp_path):
    path = tmp_path / 'new' / 'history.csv'
    with CSVLogger(path) as log:
        assert not path.exists()
        for epoch in (1, 2):
            log(record(epoch))
            assert len(read(path)) == epoch
    assert path.read_text() == (
        'epoch,loss.bpr,val.recall@20,seconds.generate\n'
        f'1,{1 / 3!r},0.5,1e-07\n'
        f'2,{2 / 3!r},0.5,1e-07\n'
    )
    assert os.listdir(path.parent) == ['history.csv']


@pytest.mark.parametrize('first', [1, 2, 4])
def test_resumed_epochs_replace_rows(tmp_path, first):
    path = tmp_path / 'history.csv'
    before = CSVLogger(path)
    for epoch in (1, 2, 3):
        before(record(epoch))
    for log in (before, CSVLogger(path)):
        log(record(first, bpr=9.0))
        rows = read(path)
        assert [int(r['epoch']) for r in rows] == list(range(1, first + 1))
        assert rows[-1]['loss.bpr'] == '9.0'
        assert float(rows[0]['loss.bpr']) == (9.0 if first == 1 else 1 / 3)


def test_columns_that_come_later(tmp_path):
    log = CSVLogger(tmp_path / 'history.csv')
    log(record(1))
    log(record(2, contrastive=0.25))
    rows = read(tmp_path / 'history.csv')
    assert [r['loss.contrastive'] for r in rows] == ['', '0.25']
    CSVLogger(tmp_path / 'history.csv')(record(3))
    rows = read(tmp_path / 'history.csv')
    assert [r['loss.contrastive'] for r in rows] == ['', '0.25', '']


@pytest.mark.parametrize(
    'content',
    [
        b'',
        b'a,b\n1,2\n',
        b'epoch,loss.bpr\nx,2\n',
        b'epoch,loss.bpr\n1\n',
        b'epoch,loss.bpr\n1,2,3\n',
        b'epoch,loss.bpr\n1,"2\n',
        b'\xff\xfe\x00',
    ],
)
def test_other_files_are_kept(tmp_path, content):
    path = tmp_path / 'history.csv'
    path.write_bytes(content)
    with pytest.raises(ValueError, match='history.csv.*of CSVLogger'):
        CSVLogger(path)
    assert path.read_bytes() == content


def test_of_a_trainer(tmp_path, planted):
    config = DiffMMConfig(num_epochs=2, embedding_dim=4, hidden_channels=4, k=3)
    trainer = DiffMMTrainer(planted(), config)
    path = tmp_path / 'history.csv'
    with CSVLogger(path) as log:
        trainer.fit(callback=log)
    rows = read(path)
    for row, expected in zip(rows, trainer.history, strict=True):
        assert int(row['epoch']) == expected['epoch']
        for group in ('loss', 'val', 'test', 'seconds'):
            for name, value in expected[group].items():
                assert float(row[f'{group}.{name}']) == value
        for m, values in expected['generated'].items():
            for name, value in values.items():
                assert float(row[f'generated.{m}.{name}']) == value
