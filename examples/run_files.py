r"""The files of a training run."""

import json
import platform
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy
import scipy
import torch
import torch_geometric

import diffmm_geo
from diffmm_geo.training import Trainer
from diffmm_geo.utils.atomic import atomic_path


def save_run(trainer: Trainer, folder: str | Path) -> None:
    r"""Writes the results of a training. The files replace earlier ones
    together; a failure leaves those unchanged.

    - `metrics.json`: the epoch chosen by validation, the best test epoch,
      seconds by phase, the history, the settings and versions.
    - `model.pt`: the weights and graphs of the chosen epoch.
    - `curves.png`: metrics and losses over epochs.
    """
    folder, metrics = Path(folder), run_metrics(trainer)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        path = stack.enter_context(atomic_path(str(folder / 'metrics.json')))
        Path(path).write_text(f'{json.dumps(metrics, indent=2)}\n')
        path = stack.enter_context(atomic_path(str(folder / 'model.pt')))
        torch.save(trainer.task.get_state(), path)
        path = stack.enter_context(atomic_path(str(folder / 'curves.png')))
        plot_curves(trainer.history, trainer.metric, path)


def run_metrics(trainer: Trainer) -> dict[str, Any]:
    r"""The content of `metrics.json`."""
    best = {'best_val': trainer.best_val}
    if 'test' in trainer.task.edge_label_index:
        best['best_test'] = trainer.best_test
    return {
        **{
            name: {key: record.get(key) for key in ('epoch', 'val', 'test')}
            for name, record in best.items()
        },
        'epoch_seconds': [record['seconds'] for record in trainer.history],
        'history': trainer.history,
        'config': asdict(trainer.config),
        'versions': versions(),
        'device': str(trainer.task.device),
    }


def versions() -> dict[str, str]:
    r"""The versions of the packages that results depend on."""
    packages = diffmm_geo, torch, torch_geometric, numpy, scipy
    out = {package.__name__: package.__version__ for package in packages}
    return {**out, 'python': platform.python_version()}


def plot_curves(history: list[dict[str, Any]], metric: str, path: str) -> None:
    r"""Draws metrics and losses over epochs."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(10, 4), layout='constrained')
    left, right = figure.subplots(1, 2)
    epochs = [record['epoch'] for record in history]
    evaluated = [record for record in history if 'val' in record]
    for split, label in (('val', 'validation'), ('test', 'test')):
        if split in evaluated[0]:
            values = [record[split][metric] for record in evaluated]
            at = [record['epoch'] for record in evaluated]
            left.plot(at, values, marker='.', label=label)
    chosen = max(evaluated, key=lambda record: record['val'][metric])['epoch']
    left.axvline(chosen, color='grey', linestyle=':', label='chosen epoch')
    left.set(xlabel='Epoch', ylabel=metric.capitalize())
    left.legend()
    for name in history[0]['loss']:
        values = [record['loss'][name] for record in history]
        right.plot(epochs, values, marker='.', label=name.replace('_', ' '))
    right.set(xlabel='Epoch', ylabel='Mean loss', yscale='log')
    right.legend(loc='upper left', bbox_to_anchor=(1, 1), frameon=False)
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.savefig(path, dpi=120, format='png')
