"""Trains DiffMM at the size of TikTok, in every mode, with and without our
kernels and CUDA graphs.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.graphs import QUICK, TIKTOK
from benchmarks.gpu.launches import count_launches
from benchmarks.gpu.phase import Spec
from benchmarks.gpu.results import Results
from benchmarks.graphs import is_available
from benchmarks.operations import operations_per_step
from benchmarks.training import MODES, train
from diffmm_geo.ops import available_backends, default_backend

# Channels of the generated modalities, as in TikTok.
FEATURES = {'image': 128, 'audio': 128}
EPOCHS, QUICK_EPOCHS = 3, 1


def cases(device: torch.device) -> list[dict[str, Any]]:
    """Modes, backends and CUDA graphs, the most important first."""
    backends = [default_backend(device)]
    if device.type == 'cuda' and 'triton' in available_backends(device):
        backends.append('triton')
    graphs = (False, True) if device.type == 'cuda' else (False,)
    return [
        {'mode': mode, 'backend': backend, 'cuda_graphs': graph}
        for graph in graphs
        for mode in ('fp32', 'fast', 'bf16')
        for backend in backends
    ]


def main(spec: Spec) -> None:
    deadline = time.monotonic() + spec.seconds
    device = torch.device(spec.device)
    root = Path(spec.root or spec.scratch)
    graph = QUICK if spec.quick else TIKTOK
    if spec.root is not None and is_available('tiktok', root):
        graph = 'tiktok'
    results = Results(spec.path('epoch'), graph=graph, records=[])
    for case in cases(device):
        record: dict[str, Any] = {**case, 'status': 'ok', 'metrics': {}}
        if time.monotonic() > deadline:
            record['status'] = 'left out'
        else:
            measure(spec, graph, root, case, record)
        results['records'].append(record)
        results.write()
    results.write(complete=True)


def measure(
    spec: Spec,
    graph: str,
    root: Path,
    case: dict[str, Any],
    record: dict[str, Any],
) -> None:
    config = dict(MODES[case['mode']], cuda_graphs=case['cuda_graphs'])
    if spec.quick:  # Enough steps to count one.
        config |= {'batch_size': 16, 'diffusion_batch_size': 5}
    try:
        record['metrics'] = train(
            {
                'graph': graph,
                'root': str(root),
                'recipe': 'default' if spec.quick else 'tiktok',
                'config': config,
                'device': spec.device,
                'epochs': QUICK_EPOCHS if spec.quick else EPOCHS,
                'seed': 0,
                'threads': None,
                'channels': FEATURES,
                'backend': case['backend'],
            },
            lambda trainer: {
                **operations_per_step(trainer),
                **count_launches(trainer),
            },
        )
    except Exception as error:
        text = str(error).strip().split('\n')[0]
        record['status'] = 'failed'
        record['reason'] = f'{type(error).__name__}: {text}'[:300]
    seconds = record['metrics'].get('epoch_s')
    names = ' '.join(str(value) for value in case.values())
    text = record.get('reason') if seconds is None else f'{seconds:.3f} s'
    print(f'  {names}: {text}', file=sys.stderr, flush=True)


if __name__ == '__main__':
    main(Spec.from_argv())
