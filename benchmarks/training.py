"""Trains DiffMM for some epochs, and prints the seconds by phase and the peak
memory as JSON: `python -m benchmarks.training SPEC`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.child import answer
from benchmarks.graphs import load_graph, to_data
from benchmarks.timing import Timing, read_status
from diffmm_geo.ops import backend
from diffmm_geo.training import RECIPES, DiffMMConfig, DiffMMTrainer

FAST = {
    'precision': 'bf16',
    'diffusion_form': 'sampled',
    'num_candidates': 2048,
}
# Modes of training, as changes to the recipe. A mode with a field that this
# version's settings do not have is left out.
MODES: dict[str, dict[str, Any]] = {
    'fp32': {},
    'bf16': {'precision': 'bf16'},
    'fast': FAST,
    # With these settings, the cost of an epoch per edge is constant.
    'scalable': {**FAST, 'num_generated_from': 4096},
}


def unknown_fields(mode: str) -> list[str]:
    known = {field.name for field in fields(DiffMMConfig)}
    return [name for name in MODES[mode] if name not in known]


def peak_bytes(device: torch.device) -> float:
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated(device)
    try:
        return read_status('VmHWM')
    except OSError:  # Not Linux: macOS, in bytes.
        import resource

        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def train(
    spec: dict[str, Any],
    after: Callable[[DiffMMTrainer], dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """The metrics of a run, and those that `after` takes from its trainer."""
    if spec['threads'] is not None:
        torch.set_num_threads(spec['threads'])
    device = torch.device(spec['device'])
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
    base = peak_bytes(device)  # PyTorch itself
    graph = load_graph(spec['graph'], Path(spec['root']), spec['seed'])
    data = to_data(graph, spec.get('channels', 64), spec['seed'])
    epochs = spec['epochs'] + 1
    config = replace(
        RECIPES[spec['recipe']],
        num_epochs=epochs,
        patience=epochs,
        seed=spec['seed'],
        **spec['config'],
    )
    trainer = DiffMMTrainer(data, config, device=device)
    samples: dict[str, list[float]] = {}

    def on_epoch(record: dict[str, Any]) -> None:
        start = time.perf_counter()
        if 'test' in trainer.task.edge_label_index:
            trainer.evaluate('test')
        seconds = {
            **record['seconds'],
            # The trainer's own covers validation and test.
            'evaluate': time.perf_counter() - start,
        }
        phases = [v for k, v in seconds.items() if k != 'evaluate']
        seconds['epoch'] = sum(phases)
        number = record['epoch']
        print(
            f'    epoch {number} of {epochs}: {seconds["epoch"]:.2f} s'
            + (' (warm-up)' if number == 1 else ''),
            file=sys.stderr,
            flush=True,
        )
        if number > 1:
            for name, value in seconds.items():
                samples.setdefault(name, []).append(value)

    chosen = spec.get('backend')
    with nullcontext() if chosen is None else backend(chosen):
        trainer.fit(callback=on_epoch)
        out = {'base_bytes': base, 'peak_bytes': peak_bytes(device)}
        if after is not None:
            out |= after(trainer)
    for name, values in samples.items():
        timing = Timing.of(values)
        out[f'{name}_s'] = timing.median
        out[f'{name}_s_p10'], out[f'{name}_s_p90'] = timing.p10, timing.p90
    return out


if __name__ == '__main__':
    answer(train)
