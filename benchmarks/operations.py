"""Counts the tensor operations of a training step, on any device. On a GPU,
each is a launch or more: `python -m benchmarks.operations --mode fp32 fast`.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.gpu.graphs import TIKTOK
from benchmarks.graphs import load_graph, to_data
from benchmarks.training import MODES
from diffmm_geo.training import RECIPES, DiffMMTrainer

# The phases of an epoch, and the properties that count their steps.
PHASES = {'denoiser_step': 'num_denoiser_steps', 'step': 'num_batches'}
# Channels of the generated modalities, as in TikTok.
FEATURES = {'image': 128, 'audio': 128}

# They write nothing, as views do.
NO_WORK = (
    '_record_function_enter_new',
    '_record_function_exit',
    'squeeze_',
    'empty',
    'empty_like',
    'empty_strided',
    'new_empty',
    'new_empty_strided',
)


class OperationCounter(TorchDispatchMode):
    """Counts operations by name, without views and allocations. It does not
    see kernels of ours, which Triton launches.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        _, name = func.name().split('::')
        if not func.is_view and name.split('.')[0] not in NO_WORK:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


class _Enough(Exception):
    pass


def within_steps(
    trainer: DiffMMTrainer,
    phase: str,
    context: AbstractContextManager[Any],
    first: int = 1,
    number: int = 1,
) -> int:
    """Runs a phase of :obj:`PHASES` with a context around some of its steps,
    and stops. Returns the number of these steps, which is zero if the phase is
    too short.
    """
    task = trainer.task
    length = getattr(task, PHASES[phase])
    number = min(number, length - first)
    if number < 1:
        return 0
    done = 0

    def on_step() -> None:
        nonlocal done
        done += 1
        if done == first:
            context.__enter__()
        elif done == first + number:
            context.__exit__(None, None, None)
            raise _Enough

    with suppress(_Enough), task.random_state.entered():
        if phase == 'step':
            trainer.train_on_batches(on_step)
        else:
            task.train_denoisers(on_step)
    return number


def count_operations(step: Callable[[], object]) -> Counter[str]:
    """The operations of a step by name."""
    with OperationCounter() as counter:
        step()
    return counter.counts


def operations_by_phase(trainer: DiffMMTrainer) -> dict[str, Counter[str]]:
    """The operations of the second step of each phase by name. A step of
    denoisers trains each of them.
    """
    out = {}
    for phase in PHASES:
        counter = OperationCounter()
        if within_steps(trainer, phase, counter):
            out[phase] = counter.counts
    return out


def operations_per_step(trainer: DiffMMTrainer) -> dict[str, int]:
    """Metrics of an epoch: `operations_per_step` of the recommendation phase,
    and `operations_per_denoiser_step` of all denoisers together.
    """
    return {
        f'operations_per_{name}': counts.total()
        for name, counts in operations_by_phase(trainer).items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--mode', nargs='+', default=['fp32', 'fast'])
    parser.add_argument('--graph', default=TIKTOK)
    parser.add_argument('--recipe', default='tiktok')
    parser.add_argument('--root', type=Path, default=Path('.'))
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--top', type=int, default=0, help='names to list')
    args = parser.parse_args()
    data = to_data(load_graph(args.graph, args.root, 0), FEATURES, 0)
    for mode in args.mode:
        config = replace(RECIPES[args.recipe], **MODES[mode])
        trainer = DiffMMTrainer(data, config, device=args.device)
        task = trainer.task
        user = torch.arange(task.num_users, device=task.device)
        item = torch.randint_like(user, task.num_items)
        edges = torch.stack([user, item])
        edge_type = trainer.model.conv.generated_edge_type
        task.set_graphs({edge_type(m): edges for m in trainer.model.modalities})
        for phase, counts in operations_by_phase(trainer).items():
            print(f'{mode} {phase}: {counts.total()} operations')
            for name, number in counts.most_common(args.top):
                print(f'  {number:4d} {name}')


if __name__ == '__main__':
    main()
