import subprocess
import sys
import warnings

import pytest
import torch
from torch.testing import assert_close

from diffmm_geo.training import Trainer
from tests.training import lightning_ranks
from tests.training.lightning_ranks import (
    CASES,
    NUM_RANKS,
    ObservedTask,
    make_config,
    make_data,
    task_of,
)

pl = pytest.importorskip('lightning.pytorch')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('ranks')
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone']
    command += ['--nproc-per-node', str(NUM_RANKS), lightning_ranks.__file__]
    done = subprocess.run([*command, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(params=CASES)
def case(request):
    return request.param


@pytest.fixture
def ranks(folder, case):
    return [torch.load(folder / f'{case}-{n}.pt') for n in range(NUM_RANKS)]


@pytest.fixture
def loaded(monkeypatch, folder, case):
    from diffmm_geo.training import lightning_module

    monkeypatch.setattr(lightning_module, 'DiffMMTask', task_of(case))
    data = make_data(CASES[case][0])
    return lightning_module.DiffMMLightning.load_from_checkpoint(
        folder / f'{case}.ckpt', data=data
    )


def test_ranks_are_equal(ranks):
    first, second = ranks
    for name in ('weights', 'generated', 'drawn', 'logged'):
        assert_close(second[name], first[name], rtol=0, atol=0)


def test_metrics_are_those_of_one_process(ranks, loaded):
    trainer = pl.Trainer(accelerator='cpu', logger=False)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # About the number of workers.
        (metrics,) = trainer.validate(loaded, verbose=False)
    assert set(metrics) <= set(ranks[0]['logged'])
    for name, value in metrics.items():
        assert ranks[0]['logged'][name] == pytest.approx(value, rel=1e-5), name


def test_generated_edges_are_those_of_one_process(ranks, loaded):
    expected = loaded.task.generate()
    assert expected.keys() == ranks[0]['generated'].keys()
    for edge_type, edge_index in expected.items():
        assert edge_index.equal(ranks[0]['generated'][edge_type])


def test_predicts_a_share_of_users(ranks, loaded):
    top = torch.cat([rank['predicted'] for rank in ranks])
    assert top.equal(loaded())


def test_equals_one_process_with_larger_batches(folder):
    # Each rank takes every second triple.
    config = make_config('observed', 24 * NUM_RANKS)
    task = ObservedTask(make_data(CASES['observed'][0]), config)
    trainer = Trainer(task)
    final = {}
    trainer.fit(
        callback=lambda r: final.update(
            {k: x.clone() for k, x in trainer.model.state_dict().items()}
        )
    )
    ranks = torch.load(folder / 'observed-0.pt')
    for name, x in final.items():
        assert_close(ranks['weights'][f'task.model.{name}'], x)
    for name, value in trainer.history[-1]['loss'].items():
        logged = ranks['logged'][f'loss/{name}']
        assert logged == pytest.approx(value, rel=1e-5), name
