r"""Trained models on disk, shared by all experiments.

A run is a data set, a model and its settings. Its folder,
`STORE/DATASET/MODEL-HASH`, holds

- `result.json`: the settings, the records of the epoch chosen by validation
  and of the best test epoch, the history;
- `embeddings.npz`: users and items of the chosen epoch;
- `generated.npz`: the generated edges of each modality, for DiffMM.

A finished run is loaded; an unfinished one resumes from its checkpoint.
"""

import gc
import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor
from torch_geometric.data import HeteroData

from diffmm_geo.evaluation import evaluate
from diffmm_geo.training import Trainer, TrainingConfig
from diffmm_geo.utils.atomic import atomic_path
from examples.experiments.models import MODELS
from examples.run_files import run_metrics

OBSERVED = ('user', 'interacts', 'item')


@dataclass(frozen=True)
class Run:
    r"""A finished run."""

    folder: Path
    model: str
    result: dict[str, Any]

    @cached_property
    def embeddings(self) -> tuple[Tensor, Tensor]:
        with np.load(self.folder / 'embeddings.npz') as file:
            return torch.from_numpy(file['user']), torch.from_numpy(
                file['item']
            )

    @cached_property
    def generated(self) -> dict[str, Tensor]:
        with np.load(self.folder / 'generated.npz') as file:
            return {m: torch.from_numpy(file[m]) for m in file.files}

    def metrics(self, best: str = 'best_val') -> dict[str, float]:
        r"""The test metrics of the best epoch on a split."""
        return self.result[best]['test']

    def evaluate_on(self, data: HeteroData, edge_label_index: Tensor):
        r"""The metrics on some of the held-out interactions."""
        return evaluate(
            *self.embeddings,
            edge_label_index,
            data[OBSERVED].edge_index,
            self.result['config']['k'],
        )

    def summary(self) -> dict[str, Any]:
        r"""Its entry in the JSON of an experiment."""
        keys = ('config', 'best_val', 'best_test', 'versions', 'device')
        return {
            'model': self.model,
            **{key: self.result[key] for key in keys},
            'num_epochs_trained': len(self.result['history']),
        }


class RunStore:
    r"""Trains models on a data set, each only once.

    Args:
        root (str or Path): The folder of the store.
        dataset (str): The name of the data set.
        data (HeteroData): Its graph, with the features to use.
        device (str, optional): The device to train on. (default: `'cpu'`)
        show (callable, optional): Called with lines of progress.
            (default: `print`)
    """

    def __init__(
        self,
        root: str | Path,
        dataset: str,
        data: HeteroData,
        device: str = 'cpu',
        show: Callable[[str], None] = print,
    ) -> None:
        self.root = Path(root)
        self.dataset = dataset
        self.data = data
        self.device = device
        self.show = show
        features = {
            key: x for key, x in data['item'].items() if key.startswith('x_')
        }
        self.modalities = [key[2:] for key in features]
        self._edges_sha = _sha256(dict(data[OBSERVED].items()))
        self._features_sha = _sha256(features)

    def folder(self, model: str, config: TrainingConfig) -> Path:
        r"""The folder of a run."""
        identity: dict[str, Any] = {
            'edges': self._edges_sha,
            # Runs stay valid if a later version adds a setting.
            'config': _changed_settings(config),
        }
        if MODELS[model].uses_features:
            identity['modalities'] = self.modalities
            identity['features'] = self._features_sha
        text = json.dumps(identity, sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:12]
        return self.root / self.dataset / f'{model}-{key}'

    def run(self, model: str, config: TrainingConfig, label: str) -> Run:
        r"""The run with these settings, trained if it is missing.

        Args:
            model (str): One of `MODELS`.
            config (TrainingConfig): Its settings.
            label (str): Its name in messages.
        """
        folder = self.folder(model, config)
        if self._finished(folder, config) is None:
            # Before anything is written.
            trainer = MODELS[model].trainer(self.data, config, self.device)
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(folder, label, self.show):
                # Another process may have trained it in the meantime.
                if self._finished(folder, config) is None:
                    self._train(trainer, folder, label)
            del trainer
            gc.collect()  # A trainer and its parts refer to each other.
        result = self._finished(folder, config)
        assert result is not None
        best = result['best_val']
        metric = f'recall@{config.k}'
        self.show(
            f'{label}: epoch {best["epoch"]} of {len(result["history"])}, '
            f'{metric} validation {best["val"][metric]:.4f}, '
            f'test {best["test"][metric]:.4f}'
        )
        return Run(folder, model, result)

    def _finished(
        self,
        folder: Path,
        config: TrainingConfig,
    ) -> dict[str, Any] | None:
        # `result.json` is written last.
        path = folder / 'result.json'
        if not path.exists():
            return None
        result = json.loads(path.read_text())
        wanted = _as_json(asdict(config))
        there = result['config']
        # Defaults may have changed since then.
        if any(there.get(k, v) != v for k, v in wanted.items()):
            return None
        return result

    def _train(self, trainer: Trainer, folder: Path, label: str) -> None:
        on_terminal = sys.stderr.isatty()
        metric = trainer.metric

        def show(record):
            self.show(
                f'{label}: epoch {record["epoch"]}, {metric} validation '
                f'{record["val"][metric]:.4f} '
                f'({sum(record["seconds"].values()):.1f} s)'
            )

        checkpoints = folder / 'checkpoints'
        trainer.fit(
            progress=on_terminal,
            callback=None if on_terminal else show,
            checkpoint_dir=checkpoints,
            resume=True,
        )
        user, item = trainer.embeddings()
        _save_npz(folder / 'embeddings.npz', user=user, item=item)
        if hasattr(trainer.task, 'generated'):
            generated = {
                relation.removeprefix('denoised_'): edge_index
                for (_, relation, _), edge_index in (
                    trainer.task.generated.items()
                )
            }
            _save_npz(folder / 'generated.npz', **generated)
        result = run_metrics(trainer)
        with atomic_path(str(folder / 'result.json')) as path:
            Path(path).write_text(json.dumps(result, indent=2) + '\n')
        rmtree(checkpoints, ignore_errors=True)


@contextmanager
def _locked(
    folder: Path,
    label: str,
    show: Callable[[str], None],
) -> Iterator[None]:
    r"""Waits while another process trains the same run."""
    lock = FileLock(folder / 'lock')
    try:
        acquired = lock.acquire(timeout=0)
    except Timeout:
        show(f'{label}: waiting for the process that trains it')
        acquired = lock.acquire()
    with acquired:
        yield


def _save_npz(path: Path, **arrays: Tensor) -> None:
    with atomic_path(str(path)) as temporary, open(temporary, 'wb') as file:
        np.savez(
            file,
            **{
                name: x.float().cpu().numpy()
                if x.is_floating_point()
                else x.cpu().numpy()
                for name, x in arrays.items()
            },
        )


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _changed_settings(config: TrainingConfig) -> dict[str, Any]:
    return {
        f.name: _as_json(getattr(config, f.name))
        for f in fields(config)
        if getattr(config, f.name) != f.default
    }


def _sha256(tensors: dict[str, Any]) -> str:
    out = hashlib.sha256()
    for name in sorted(tensors):
        x = tensors[name]
        if isinstance(x, Tensor):
            out.update(f'{name} {x.dtype} {list(x.size())}'.encode())
            out.update(x.contiguous().view(torch.uint8).numpy().tobytes())
    return out.hexdigest()
