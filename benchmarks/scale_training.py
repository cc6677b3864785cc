"""One epoch of DiffMM at a size that a machine just holds, phase by phase;
adds seconds and memory to a file of JSON lines:
`python -m benchmarks.scale_training SPEC`.

Of a phase that would take long, no more than a fraction of its steps is taken
if told so; what all would take follows from those after the first.
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

from benchmarks.child import answer
from benchmarks.graphs import load_graph, to_data
from benchmarks.timing import read_status, reset_peak
from benchmarks.training import peak_bytes
from diffmm_geo.datasets import load_folder
from diffmm_geo.training import DiffMMConfig, DiffMMTrainer
from diffmm_geo.training.generators import DiffusionGenerator
from diffmm_geo.utils.memory import kept_memory, release_memory

# Rows of features that are drawn at a time.
ROWS = 2**16


class PhaseEnd(Exception):
    """As many steps of a phase as are to be timed have been taken."""


@dataclass
class Phase:
    """Times the steps of a phase, and ends it after a fraction of them if all
    would take more than `long` seconds. The seconds of the processor say what a
    phase takes where others share the machine, or pause what runs on it.
    """

    name: str
    num_steps: int
    fraction: float
    long: float
    times: list[float] = field(default_factory=list)
    cpu_times: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        release_memory()
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
        """What the phase took, what it would take to its end, and its peak
        of memory. The parent is told at once, as the next phase may be too
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
        # What comes before the first step is taken once.
        seconds = times[-1] - times[0]
        if done < self.num_steps:
            rate = (times[done] - times[1]) / (done - 1)
            seconds += rate * (self.num_steps - done)
        return seconds


def begin_peak() -> None:
    """Makes both peaks of memory start anew."""
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


# Of a name and a number of steps.
BeginPhase = Callable[[str, int], Phase]


class TimedGenerator(DiffusionGenerator):
    """The trainer's own two phases, timed by steps: those that train the
    denoisers, and blocks of users that items are generated for. Users that a
    phase ends before get random items, so that the next one has graphs of
    full size.
    """

    def __init__(self, trainer: DiffMMTrainer, begin: BeginPhase) -> None:
        super().__init__(trainer)
        self.begin = begin

    def train_epoch(self) -> dict[str, float]:
        phase = self.begin('diffusion', self.num_steps)
        self.trainer._on_step = phase.step
        losses: dict[str, float] = {}
        try:
            losses = super().train_epoch()
        except PhaseEnd:
            self.trainer.diffusion_optimizer.zero_grad()
        phase.metrics(self.trainer.device)
        return losses

    def edges(self) -> dict[str, Tensor]:
        trainer = self.trainer
        users = torch.arange(trainer.num_users, device=trainer.device)
        blocks = users.split(math.ceil(users.numel() / 20))
        modalities = trainer.model.modalities
        items = {
            m: torch.randint_like(users, trainer.num_items) for m in modalities
        }
        phase = self.begin('generate', len(blocks) * len(modalities))
        with suppress(PhaseEnd):
            for block in blocks:
                part = self._interactions.take(block)
                for m in modalities:
                    items[m][block] = trainer.diffusion.sample_edges_of(
                        m, part, 1
                    )[1]
                    phase.step()
        phase.metrics(trainer.device)
        return {m: torch.stack([users, item]) for m, item in items.items()}


def write_folder(spec: dict[str, Any], folder: Path) -> None:
    """The data set as files: interactions, and features in half precision,
    of which a block of rows is held at a time.
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
    release_memory()
    report('wrote the files', [start, time.perf_counter()])

    begin_peak()
    start, cpu_start = time.perf_counter(), time.process_time()
    data = load_folder(folder)
    config = DiffMMConfig(seed=spec['seed'], **spec['config'])
    trainer = DiffMMTrainer(data, config, device=device)
    begin = partial(Phase, fraction=spec['fraction'], long=spec['long'])
    generator = TimedGenerator(trainer, begin)
    trainer._generator = generator
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

    train_epoch(trainer, generator, begin)


def train_epoch(
    trainer: DiffMMTrainer,
    generator: TimedGenerator,
    begin: BeginPhase,
) -> None:
    """The trainer's own epoch, which ends with as many steps over the
    interactions as are to be timed.
    """
    phases: list[Phase] = []
    generate_graphs = trainer.generate_graphs

    def generate_and_begin() -> dict[str, float]:
        losses = generate_graphs()
        steps = trainer.num_steps - generator.num_steps
        phases.append(begin('recommend', steps))
        trainer._on_step = phases[0].step
        return losses

    trainer.generate_graphs = generate_and_begin  # type: ignore[method-assign]
    with kept_memory(), suppress(PhaseEnd):  # As `fit` has it.
        trainer.train_epoch()
    phases[0].metrics(trainer.device)


def run(spec: dict[str, Any]) -> dict[str, Any]:
    if spec['folder'] is not None:
        Path(spec['folder']).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=spec['folder']) as folder:
        train(spec, Path(folder))
    return {}  # All has been told.


if __name__ == '__main__':
    answer(run)
