"""Trains DiffMM for one epoch at a size that just fits into memory, and appends
the seconds and the memory of each phase to a file of JSON lines:
`python -m benchmarks.scale_training SPEC`.

On request, a long phase stops after a fraction of its steps. The total is
extrapolated from the steps after the first.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.typing import EdgeType

from benchmarks.child import answer
from benchmarks.graphs import load_graph, to_data
from benchmarks.timing import read_status, reset_peak
from benchmarks.training import peak_bytes
from diffmm_geo.datasets import load_folder
from diffmm_geo.tasks import DiffMMTask
from diffmm_geo.training import DiffMMConfig, Trainer

# The number of feature rows to draw at a time.
ROWS = 2**16


class PhaseEnd(Exception):
    """Raised after the last step of a phase to be timed."""


@dataclass
class Phase:
    """Times the steps of a phase, and ends it after a fraction of them if all
    would take more than `long` seconds. Processor time also measures a phase on
    a shared machine, or one that pauses processes.
    """

    name: str
    num_steps: int
    fraction: float
    long: float
    times: list[float] = field(default_factory=list)
    cpu_times: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        begin_peak()
        self.last = max(2, math.ceil(self.fraction * self.num_steps))
        self._note()

    def _note(self) -> None:
        self.times.append(time.perf_counter())
        self.cpu_times.append(time.process_time())

    def step(self) -> None:
        self._note()
        done = len(self.times) - 1
        if done % max(1, self.num_steps // 10) == 0:
            report(f'{self.name}: step {done} of {self.num_steps}', self.times)
        enough = self.last <= done < self.num_steps
        if enough and self._total(self.times, done) > self.long:
            raise PhaseEnd

    def metrics(self, device: torch.device) -> dict[str, float]:
        """The measured and the extrapolated time of the phase, and its peak
        memory. Reports to the parent at once, as the next phase may be too
        large.
        """
        done = len(self.times) - 1
        self._note()
        return tell(
            {
                f'{self.name}_seconds': self._total(self.times, done),
                f'{self.name}_cpu_s': self._total(self.cpu_times, done),
                f'{self.name}_timed_s': self.times[-1] - self.times[0],
                f'{self.name}_fraction': done / self.num_steps,
                f'{self.name}_peak_bytes': peak_bytes(device),
            }
        )

    def _total(self, times: list[float], done: int) -> float:
        # The work before the first step occurs once.
        seconds = times[-1] - times[0]
        if done < self.num_steps:
            rate = (times[done] - times[1]) / (done - 1)
            seconds += rate * (self.num_steps - done)
        return seconds


def begin_peak() -> None:
    """Resets both memory peaks."""
    reset_peak()
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()


def tell(metrics: dict[str, float]) -> dict[str, float]:
    with open(json.loads(sys.argv[1])['results'], 'a') as file:
        file.write(json.dumps(metrics) + '\n')
    return metrics


def report(text: str, times: list[float]) -> None:
    resident = read_status('VmRSS') / 1e9
    seconds = times[-1] - times[0]
    print(
        f'    {text}, {seconds:.1f} s, {resident:.1f} GB',
        file=sys.stderr,
        flush=True,
    )


def write_folder(spec: dict[str, Any], folder: Path) -> None:
    """Writes the data set to files: interactions, and features in half
    precision, block by block.
    """
    graph = load_graph(spec['graph'], Path(spec['root']), spec['seed'])
    store = to_data(graph, 1)['user', 'interacts', 'item']
    for name, key in (
        ('train', 'edge_index'),
        ('val', 'val_edge_label_index'),
        ('test', 'test_edge_label_index'),
    ):
        np.save(folder / f'{name}.npy', store[key].numpy())
    rng = np.random.default_rng(spec['seed'])
    shape = graph.num_items, spec['channels']
    for m in spec['modalities']:
        file = np.lib.format.open_memmap(
            folder / f'{m}_feat.npy', 'w+', np.float16, shape
        )
        for start in range(0, shape[0], ROWS):
            size = min(ROWS, shape[0] - start), shape[1]
            x = rng.standard_normal(size, np.float32)
            file[start : start + ROWS] = x
        file.flush()


def train(spec: dict[str, Any], folder: Path) -> None:
    if spec['threads'] is not None:
        torch.set_num_threads(spec['threads'])
    device = torch.device(spec['device'])
    tell({'base_bytes': peak_bytes(device)})

    start = time.perf_counter()
    write_folder(spec, folder)
    report('wrote the files', [start, time.perf_counter()])

    begin_peak()
    start, cpu_start = time.perf_counter(), time.process_time()
    data = load_folder(folder)
    config = DiffMMConfig.paper(seed=spec['seed'], **spec['config'])
    task = DiffMMTask(data, config, device=device)
    seconds = time.perf_counter() - start
    tell(
        {
            'prepare_seconds': seconds,
            'prepare_cpu_s': time.process_time() - cpu_start,
            'prepare_timed_s': seconds,
            'prepare_fraction': 1.0,
            'prepare_peak_bytes': peak_bytes(device),
        }
    )
    report('prepared', [start, time.perf_counter()])

    begin = partial(Phase, fraction=spec['fraction'], long=spec['long'])
    train_epoch(task, begin)


# Called with a name and a number of steps.
BeginPhase = Callable[[str, int], Phase]


def train_epoch(task: DiffMMTask, begin: BeginPhase) -> None:
    """The trainer's epoch, timed by steps: steps of the denoisers, blocks of
    users in generation, and steps over interactions.
    """
    phase = begin('diffusion', task.num_denoiser_steps)
    with suppress(PhaseEnd):
        task.train_denoisers(phase.step)
    task.optimizers['diffusion'].zero_grad()
    phase.metrics(task.device)

    generated = generate(task, begin)
    task.set_graphs(generated)

    phase = begin('recommend', task.num_batches)
    with suppress(PhaseEnd):
        Trainer(task).train_on_batches(phase.step)
    phase.metrics(task.device)


def generate(task: DiffMMTask, begin: BeginPhase) -> dict[EdgeType, Tensor]:
    """Gives random items to users beyond the end of the phase, so that the
    graphs have their full size.
    """
    users = torch.arange(task.num_users, device=task.device)
    blocks = users.split(math.ceil(users.numel() / 20))
    modalities = task.model.modalities
    items = {m: torch.randint_like(users, task.num_items) for m in modalities}
    phase = begin('generate', len(blocks) * len(modalities))
    with suppress(PhaseEnd):
        for block in blocks:
            part = task.interactions.take(block)
            for m in modalities:
                items[m][block] = task.diffusion.sample_edges(
                    m, part, num_edges_per_user=1
                )[1]
                phase.step()
    phase.metrics(task.device)
    return {
        task.model.conv.generated_edge_type(m): torch.stack([users, item])
        for m, item in items.items()
    }


def run(spec: dict[str, Any]) -> dict[str, Any]:
    if spec['folder'] is not None:
        Path(spec['folder']).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=spec['folder']) as folder:
        train(spec, Path(folder))
    return {}  # All phases have been reported.


if __name__ == '__main__':
    answer(run)
