r"""The files of a trained ensemble."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import diffmm_geo
from diffmm_geo.utils.atomic import atomic_path

from .train import Ensemble


def write_run(
    ensemble: Ensemble,
    metrics: dict[str, dict[str, float]],
    embeddings: dict[str, tuple[Tensor, Tensor]],
    settings: dict[str, Any],
    folder: str,
) -> None:
    r"""Writes :obj:`metrics.json` with the metrics of each split, the history,
    the weights, settings and versions, and :obj:`model.pt` with the embeddings
    of the trained members. The files replace earlier ones together.
    """
    content = {
        'best_val': {'epoch': None, **metrics},
        'history': ensemble.history,
        'weights': ensemble.weights,
        'config': settings,
        'versions': {
            'diffmm_geo': diffmm_geo.__version__,
            'torch': torch.__version__,
        },
    }
    Path(folder).mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        path = stack.enter_context(atomic_path(f'{folder}/metrics.json'))
        Path(path).write_text(json.dumps(content, indent=2) + '\n')
        path = stack.enter_context(atomic_path(f'{folder}/model.pt'))
        torch.save(embeddings, path)
