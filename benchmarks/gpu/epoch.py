"""Trains DiffMM at the size of TikTok, in the most important modes, with and
without our kernels and CUDA graphs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from traceback import print_exc
from typing import Any

import torch

from benchmarks.device import to_device
from benchmarks.gpu.graphs import QUICK, SMALL, TIKTOK
from benchmarks.gpu.launches import count_launches
from benchmarks.gpu.phase import Spec
from benchmarks.gpu.results import Results
from benchmarks.gpu.summary import epoch_name
from benchmarks.graphs import is_available
from benchmarks.operations import operations_per_step
from benchmarks.training import MODES, train
from diffmm_geo.ops import available_backends, default_backend
from diffmm_geo.training import DiffMMTrainer

# Channels of the generated modalities, as in TikTok.
FEATURES = {'image': 128, 'audio': 128}
LIKE_TIKTOK = (TIKTOK, 'tiktok')
EPOCHS, QUICK_EPOCHS = 3, 1


# The number of cases of this phase; `more_epochs` has the others.
FIRST = 4


def cases(device: torch.device) -> list[dict[str, Any]]:
    """Modes, backends and CUDA graphs. The eager baseline is the first, and
    the fastest cases follow.
    """
    plain = default_backend(device)
    if device.type != 'cuda':
        found = [(mode, plain, False) for mode in MODES]
    else:
        found = [
            ('fp32', plain, False),
            ('fp32', 'triton', True),
            ('fast', 'triton', True),
            ('fast', plain, False),
            ('fp32', 'triton', False),
            ('fast', 'triton', False),
            ('fp32', plain, True),
            ('fast', plain, True),
        ]
        others = [mode for mode in MODES if mode not in ('fp32', 'fast')]
        found += [(mode, 'triton', True) for mode in others]
        found += [(mode, plain, False) for mode in others]
    known = available_backends(device)
    return [
        {'mode': mode, 'backend': backend, 'cuda_graphs': graphs}
        for mode, backend, graphs in found
        if backend in known
    ]


def graph_of(spec: Spec, device: torch.device, root: Path) -> str:
    if spec.root is not None and is_available('tiktok', root):
        return 'tiktok'
    if spec.quick:
        return QUICK
    return TIKTOK if device.type == 'cuda' else SMALL


def measure_all(spec: Spec, chosen: slice) -> None:
    """Measures these cases, and adds them to those in the file."""
    deadline = time.monotonic() + spec.seconds
    device = to_device(spec.device)
    root = Path(spec.root or spec.scratch)
    graph = graph_of(spec, device, root)
    results = Results.resume(spec.path('epoch'), graph=graph, records=[])
    results['complete'] = False
    for case in cases(device)[chosen]:
        record: dict[str, Any] = {**case, 'status': 'begun', 'metrics': {}}
        results['records'].append(record)
        results.write()
        if time.monotonic() > deadline:
            record['status'] = 'left out'
        else:
            measure(spec, graph, root, case, record, results.write)
    results.write(complete=True)


def main(spec: Spec) -> None:
    measure_all(spec, slice(FIRST))


def measure(
    spec: Spec,
    graph: str,
    root: Path,
    case: dict[str, Any],
    record: dict[str, Any],
    write: Callable[[], None],
) -> None:
    config = dict(MODES[case['mode']], cuda_graphs=case['cuda_graphs'])
    name = epoch_name(case)
    traces = spec.logs / f'trace-{name.replace(" ", "-")}'
    if spec.quick:  # Enough steps to count one.
        config |= {'batch_size': 16, 'diffusion_batch_size': 5}

    def after(trainer: DiffMMTrainer) -> dict[str, Any]:
        # At once, as a profiler may end the process.
        record['seconds'] = [epoch['seconds'] for epoch in trainer.history]
        write()
        try:
            counts = operations_per_step(trainer)
            return counts | count_launches(trainer, traces)
        except Exception as error:  # What was measured remains.
            print_exc()
            return {'not_counted': f'{type(error).__name__}: {error}'[:300]}

    try:
        record['metrics'] = train(
            {
                'graph': graph,
                'root': str(root),
                'recipe': 'tiktok' if graph in LIKE_TIKTOK else 'default',
                'config': config,
                'device': spec.device,
                'epochs': QUICK_EPOCHS if spec.quick else EPOCHS,
                'seed': 0,
                'threads': None,
                'channels': FEATURES,
                'backend': case['backend'],
            },
            after,
        )
        record['status'] = 'ok'
    except Exception as error:
        print_exc()
        text = str(error).strip().split('\n')[0]
        record['status'] = 'failed'
        record['reason'] = f'{type(error).__name__}: {text}'[:300]
    seconds = record['metrics'].get('epoch_s')
    text = record.get('reason') if seconds is None else f'{seconds:.3f} s'
    print(f'  {name}: {text}', file=sys.stderr, flush=True)


if __name__ == '__main__':
    main(Spec.from_argv())
