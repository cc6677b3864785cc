import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from diffmm_geo.training import DiffMMTrainer
from diffmm_geo.training.distributed import DistributedDiffMMTrainer
from tests.training.distributed.distributed_runs import (
    CASES,
    NUM_EPOCHS,
    make_config,
    make_data,
    make_trainer,
)

NUM_RANKS = 2


def launch(folder, *args):
    script = Path(__file__).parent / 'distributed_runs.py'
    return subprocess.run(
        [
            *(sys.executable, '-m', 'torch.distributed.run', '--standalone'),
            *('--nproc-per-node', str(NUM_RANKS), str(script), folder, *args),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('distributed')


@pytest.fixture(scope='module')
def histories(folder):
    r"""What each rank has made of all cases."""
    make_trainer('three', num_epochs=2).fit(checkpoint_dir=folder / 'one')
    out = launch(folder)
    assert out.returncode == 0, out.stderr
    return [
        json.loads((folder / f'{rank}.json').read_text())
        for rank in range(NUM_RANKS)
    ]


def assert_same(history, expected, **kwargs):
    assert len(history) == len(expected)
    for record, other in zip(history, expected):
        for part in ('loss', 'val', 'test'):
            assert record[part] == pytest.approx(other[part], **kwargs)


@pytest.mark.parametrize('name', CASES)
def test_losses_of_one_process(histories, name):
    assert_same(histories[0][name], make_trainer(name).fit(), rel=1e-4)
    # No tolerance: ranks choose the same epoch.
    assert_same(histories[0][name], histories[1][name], rel=0, abs=0)


def test_losses_of_the_plain_trainer(histories):
    # The plain trainer draws the noise of denoisers in another way.
    trainer = DiffMMTrainer(make_data(2), make_config(**CASES['random'][1]))
    assert_same(histories[0]['random'], trainer.fit(), rel=1e-4)


def test_goes_on_from_one_process(histories):
    assert_same(histories[0]['resumed'], histories[0]['three'], rel=1e-4)


def test_all_ranks_stop_at_a_loss_that_is_not_finite(histories):
    for history in histories:
        assert history['not finite'] == (
            "NonFiniteLossError: the loss 'diffusion_1' is nan in epoch 1, "
            'step 1'
        )


def test_all_ranks_stop_where_they_differ(histories):
    for history in histories:
        assert "'ranks' need to be in the same state" in history['other seed']


def test_sharded_parameters(histories):
    for history in histories:
        assert_same(history['sharded'], history['three'], rel=1e-4)


def test_files_of_sharded_parameters(histories, folder):
    # The files hold whole parameters, so one process can resume.
    trainer = make_trainer('three')
    trainer.fit(checkpoint_dir=folder / 'sharded', resume=True)
    metrics = json.loads((folder / 'run' / 'metrics.json').read_text())
    assert_same(trainer.history, metrics['history'], rel=0, abs=0)
    state = torch.load(folder / 'run' / 'model.pt', weights_only=True)
    for name, x in trainer.model.state_dict().items():
        assert torch.equal(x, state['model'][name])


@pytest.mark.parametrize('shard', [(), ('shard',)])
def test_killed_rank(tmp_path, shard):
    out = launch(tmp_path, 'kill', *shard)
    assert time.time() - (tmp_path / 'killed').stat().st_mtime < 60
    assert out.returncode != 0
    # The remaining rank prints it, unless the launcher ends it first.
    assert 'another rank has ended' in out.stderr or 'SIGKILL' in out.stderr
    assert 'in call' not in out.stderr  # No traceback of the library.

    trainer = make_trainer('two')
    numbers = []
    history = trainer.fit(
        callback=lambda record: numbers.append(record['epoch']),
        checkpoint_dir=tmp_path / 'checkpoints',
        resume=True,
    )
    assert numbers == [3, NUM_EPOCHS]
    assert_same(history, make_trainer('two').fit(), rel=1e-4)


def test_no_cuda_graphs():
    config = make_config(cuda_graphs=True)
    with pytest.raises(ValueError, match="'cuda_graphs'"):
        DistributedDiffMMTrainer(make_data(1), config)


def test_no_batches_of_neighbors():
    config = make_config(batching='neighbor')
    with pytest.raises(ValueError, match="'batching'"):
        DistributedDiffMMTrainer(make_data(1), config)
