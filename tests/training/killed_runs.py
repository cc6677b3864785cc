r"""Kills training at random moments and resumes it, until it has been killed
so many times, and compares with a run that was left alone:

    python tests/training/killed_runs.py KILLS FOLDER
"""

import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

# Not installed, and imported by other names in pytest.
sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

from diffmm_geo.training import DiffMMConfig, DiffMMTrainer
from diffmm_geo.training.checkpoint import read_checkpoint
from tests.planted import planted

NUM_EPOCHS = 12


def make_trainer():
    config = DiffMMConfig(
        num_epochs=NUM_EPOCHS,
        batch_size=128,
        embedding_dim=8,
        hidden_channels=64,
        lr=1e-2,
    )
    return DiffMMTrainer(planted(60, 40, num_train=6), config)


def run(folder):
    trainer = make_trainer()
    trainer.fit(checkpoint_dir=folder, resume=True)
    return trainer


def start(folder):
    r"""A process that trains, in `folder`, from where the last one was."""
    pid = os.fork()
    if pid == 0:
        try:
            run(folder)
        except BaseException as error:
            print(error, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return pid


def outcome(folder):
    last = read_checkpoint(folder / 'last.ckpt')
    for record in last['history']:
        del record['seconds']
    return last['history'], {
        key: last[key] for key in ('state', 'best', 'optimizers', 'random')
    }


def assert_same(one, other):
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert one.equal(other)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for pair in zip(one, other):
            assert_same(*pair)
    else:
        assert one == other


def main(num_kills, folder):
    # A fork has none of the threads of its parent.
    torch.set_num_threads(1)
    begin = time.perf_counter()
    trainer = run(folder / 'alone')
    seconds = time.perf_counter() - begin
    expected = outcome(folder / 'alone')
    assert len(expected[0]) == NUM_EPOCHS

    kills, at, here = 0, [], folder / 'killed'
    while kills < num_kills:
        while True:
            pid = start(here)
            if kills < num_kills:  # Otherwise, to its end.
                time.sleep(random.uniform(0.0, 0.4 * seconds))
                os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            if os.WIFEXITED(status):
                assert os.WEXITSTATUS(status) == 0
                break
            kills += 1
            if (here / 'last.ckpt').exists():
                at.append(len(read_checkpoint(here / 'last.ckpt')['history']))
        assert_same(outcome(here), expected)
        resumed = run(here)
        assert_same(resumed.task.get_state(), trainer.task.get_state())
        shutil.rmtree(here)
    print(f'killed {kills} times, after epochs {at}')


if __name__ == '__main__':
    main(int(sys.argv[1]), Path(sys.argv[2]))
