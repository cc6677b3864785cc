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
from diffmm_geo.training.trainer import Record, Trainer
from diffmm_geo.utils.atomic import atomic_path
from diffmm_geo.utils.checks import check_type
from diffmm_geo.utils.extras import check_package
from diffmm_geo.utils.paths import check_path


def save_run(trainer: Trainer, folder: str | Path) -> None:
    r"""Writes the results of :meth:`Trainer.fit
    <diffmm_geo.training.Trainer.fit>`. A failure leaves earlier files
    unchanged.

    - :obj:`metrics.json`: :obj:`best_val` (the epoch chosen by validation),
      :obj:`best_test` (the best test epoch), :obj:`epoch_seconds` by phase, the
      history, the settings and versions.
    - :obj:`model.pt`: the weights and graphs of the chosen epoch.
    - :obj:`curves.png`: metrics and losses over epochs.

    Args:
        trainer (Trainer): A trainer that has completed at least one epoch.
        folder (str or Path): The folder, created if missing.

    Raises:
        ImportError: If matplotlib is not installed. The other files are
            written.
        ValueError: If no epoch was evaluated.
    """
    check_type('trainer', trainer, Trainer)
    folder = check_path('folder', folder)
    if not trainer.history:
        raise ValueError("'trainer' needs at least one epoch done (got none)")
    trainer.best_val  # noqa: B018 (raises an error if no epoch was evaluated)
    state = trainer.task.get_state()
    missing: ImportError | None = None
    folder.mkdir(parents=True, exist_ok=True)
    # The files replace earlier ones together, at the end of the block.
    with ExitStack() as stack:
        path = stack.enter_context(atomic_path(str(folder / 'metrics.json')))
        text = json.dumps(run_metrics(trainer), indent=2)
        Path(path).write_text(f'{text}\n')
        path = stack.enter_context(atomic_path(str(folder / 'model.pt')))
        torch.save(state, path)
        try:
            check_package('matplotlib', 'examples', 'curves.png')
        except ImportError as error:
            missing = error
        else:
            path = stack.enter_context(atomic_path(str(folder / 'curves.png')))
            plot_curves(trainer.history, trainer.metric, path)
    if missing is not None:
        raise missing


def run_metrics(trainer: Trainer) -> dict[str, Any]:
    r"""The content of :obj:`metrics.json`."""
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


def plot_curves(history: list[Record], metric: str, path: str) -> None:
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
