r"""What surrounds a CUDA graph, without a GPU."""

import pytest
import torch

from diffmm_geo.training import DiffMMConfig, DiffMMTrainer
from diffmm_geo.training import trainer as trainer_module
from diffmm_geo.training.graphed_step import NUM_FIRST_STEPS, GraphedStep

NUM_ITEMS = 64  # As rows of 16 numbers, which are aligned.
B = 8


class FakeGPU:
    r"""A device with kernels that are compiled for the alignment of their
    inputs. It is both the recorder and the step.
    """

    def __init__(self, error=None):
        self.error = error
        self.compiled, self.recording = set(), False
        self.seen, self.num_recorded = [], 0
        self.version = 0

    def run(self, function):
        function()

    def record(self, function):
        self.recording = True
        try:
            function()  # Only recorded.
            if self.error is not None:
                raise self.error
        finally:
            self.recording = False
        self.num_recorded += 1
        return function

    def step(self, batch):
        alignment = batch.size(), tuple(x.data_ptr() % 16 for x in batch)
        if self.recording:
            if alignment not in self.compiled:
                raise RuntimeError('a module is loaded while recording')
            return
        self.compiled.add(alignment)
        self.seen.append(batch.clone())

    def graphed(self):
        return GraphedStep(self.step, self, lambda: self.version)


def batches(num_edges, seed=0):
    generator = torch.Generator().manual_seed(seed)
    size = 3, num_edges
    triples = torch.randint(NUM_ITEMS, size, generator=generator)
    return triples.split(B, dim=1)


def assert_seen(gpu, *epochs):
    expected = [batch for epoch in epochs for batch in epoch]
    assert len(gpu.seen) == len(expected)
    assert all(map(torch.equal, gpu.seen, expected))


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('num_edges', [7 * B, 7 * B - 1, 9 * B - 3, 7 * B + 1])
@pytest.mark.parametrize('versions', [(0, 0, 0), (0, 0, 1)])
def test_replays_all_batches_once_recorded(num_edges, versions):
    # With an odd number of edges, rows of a batch are not aligned. A last batch
    # of another size runs as it is, and new inputs are recorded anew.
    gpu = FakeGPU()
    step = gpu.graphed()
    epochs = [batches(num_edges, seed) for seed in range(3)]
    for gpu.version, epoch in zip(versions, epochs):
        for batch in epoch:
            step(batch)
    assert_seen(gpu, *epochs)
    assert gpu.num_recorded == len(set(versions)) and not step.has_failed
    assert step.batch.size() == (3, B)


def test_goes_on_if_recording_fails():
    gpu = FakeGPU(RuntimeError('operation not permitted\nwhen capturing'))
    step = gpu.graphed()
    epoch = batches(8 * B)
    for batch in epoch[:NUM_FIRST_STEPS]:
        step(batch)
    message = r"'cuda_graphs' has no effect.*RuntimeError: .* not permitted\)"
    with pytest.warns(UserWarning, match=message):
        step(epoch[NUM_FIRST_STEPS])
    for batch in epoch[NUM_FIRST_STEPS + 1 :]:
        step(batch)  # Without another warning or attempt.
    assert_seen(gpu, epoch)
    assert step.has_failed


class Rerun:
    r"""Runs what was recorded again."""

    num_recorded = 0

    def __init__(self, device):
        self.run = lambda function: function()

    def record(self, function):
        Rerun.num_recorded += 1
        return function


def test_a_fit_records_once(planted, monkeypatch):
    r"""All epochs read graphs at one place, and end as without recording."""

    def make():
        config = DiffMMConfig.paper(
            num_epochs=3,
            batch_size=16,
            embedding_dim=8,
            hidden_channels=8,
            num_edges_per_user=2,
            k=3,
        )
        return DiffMMTrainer(planted(), config)

    expected = [record['loss'] for record in make().fit()]
    monkeypatch.setattr(trainer_module, 'CUDARecorder', Rerun)
    monkeypatch.setattr(Rerun, 'num_recorded', 0)
    trainer = make()
    object.__setattr__(trainer.config, 'cuda_graphs', True)
    places, loss_of = set(), trainer.task.loss

    def loss(batch):
        for adj in trainer.task._dropped_dict.values():
            places.add(adj.to_user.value.data_ptr())
        return loss_of(batch)

    monkeypatch.setattr(trainer.task, 'loss', loss)
    got = [record['loss'] for record in trainer.fit()]
    assert got == expected
    assert Rerun.num_recorded == 1 and trainer.task.inputs_version == 1
    assert len(places) == len(trainer.task.adj_dict)
