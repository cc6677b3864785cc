from types import SimpleNamespace

import pytest
import torch
from torch.autograd import DeviceType

from benchmarks.gpu.launches import summary
from benchmarks.graphs import load_graph, to_data
from benchmarks.operations import count_operations, operations_by_phase
from diffmm_geo.training import DiffMMConfig, DiffMMTrainer


@pytest.fixture
def trainer(tmp_path):
    graph = load_graph('power-60x40x300', tmp_path, 0)
    config = DiffMMConfig(batch_size=64, diffusion_batch_size=20)
    return DiffMMTrainer(to_data(graph, {'image': 8}, 0), config)


def test_counts_operations():
    x = torch.ones(3, 4, requires_grad=True)
    counts = count_operations(lambda: (x.t() * 2).exp_())
    assert counts == {'mul.Tensor': 1, 'exp_': 1}
    # Also those of the backward pass.
    counts = count_operations(lambda: x.exp().sum().backward())
    assert counts['mul.Tensor'] == 1


def test_counts_a_step_of_each_phase(trainer):
    trainer.train_epoch()  # Generates graphs.
    counts = operations_by_phase(trainer)
    assert list(counts) == ['denoiser_step', 'step']
    for counter in counts.values():
        assert counter['_fused_adam_'] == 1
    assert trainer.history == []


def test_summary_of_events():
    def event(name, device='CPU', us=0.0, note=False):
        return SimpleNamespace(
            name=name,
            device_type=getattr(DeviceType, device),
            is_user_annotation=note,
            time_range=SimpleNamespace(elapsed_us=lambda: us),
        )

    events = [
        *[event('cudaLaunchKernel')] * 4,
        event('cudaStreamSynchronize'),
        event('aten::add'),
        *[event('short', 'CUDA', 1.0)] * 2,
        event('long', 'CUDA', 4.0),
        event('Optimizer.step', 'CUDA', 9.0, note=True),
    ]
    out = summary(events, 'step', steps=2)
    assert out['launches_per_step'] == 2 and out['waits_per_step'] == 0.5
    assert out['device_us_per_step'] == 3
    assert out['kernels_of_step'] == [
        {'name': 'long', 'us': 2.0, 'calls': 0.5},
        {'name': 'short', 'us': 1.0, 'calls': 1.0},
    ]
