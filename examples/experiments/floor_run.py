r"""The metrics of a model that needs no training."""

from dataclasses import dataclass
from typing import Any

from torch_geometric.data import HeteroData

from diffmm_geo.evaluation import evaluate
from examples.experiments.models import FLOORS
from examples.experiments.run_store import OBSERVED


@dataclass(frozen=True)
class FloorRun:
    r"""Has the methods of a :class:`Run` that tables and figures need."""

    model: str
    result: dict[str, dict[str, float]]

    def metrics(self, best: str = 'best_val') -> dict[str, float]:
        r"""The test metrics, of which there is only one set."""
        return self.result['test']

    def summary(self) -> dict[str, Any]:
        r"""Its entry in the JSON of an experiment."""
        return {'model': self.model, 'best_val': self.result}


def run_floor(
    model: str, data: HeteroData, device: str = 'cpu', k: int = 20
) -> FloorRun:
    r"""Evaluates one of `FLOORS`."""
    store = data[OBSERVED].to(device)
    size = data['user'].num_nodes, data['item'].num_nodes
    scorer = FLOORS[model](store.edge_index, *size)
    result = {
        split: evaluate(
            scorer, store[f'{split}_edge_label_index'], store.edge_index, k
        )
        for split in ('val', 'test')
    }
    return FloorRun(model, result)
