r"""Trains the ensemble. The plain sum of most members retrieves candidates, and
a weighted sum of all members ranks them. The walk is strongest on sparse data,
and the linear autoencoder and the denoiser on dense data.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor
from torch_geometric.data import HeteroData

from diffmm_geo.evaluation import evaluate
from diffmm_geo.sparse import CSR
from diffmm_geo.transforms import ItemKNNGraph

from .floors import Scorer, ease, feature_cosine, popularity
from .fusion import two_stages, weighted_sum
from .random_walk import random_walk
from .weights import fit_weights

OBSERVED = ('user', 'interacts', 'item')
# The exponents of several popularities. A weighted sum of them approximates
# other ways to weigh users by their activity.
USER_EXPONENTS = (0.0, 0.5, 1.0, 2.0)
# Members that know too little to retrieve candidates.
ONLY_RANKING = ('popularity', 'features')
# The regularization of EASE, as a multiple of the mean number of interactions
# of an item. With more items, EASE is left out.
EASE_REG_FACTOR = 10.0
MAX_EASE_ITEMS = 12_000

Record = dict[str, Any]
Makers = dict[str, Callable[[], Scorer]]


@dataclass
class Ensemble:
    r"""The trained ensemble: its :obj:`scorer`, the learned weights of its
    members, and a record of each member and of the whole: its name, its seconds
    and its validation metrics.
    """

    scorer: Scorer
    weights: dict[str, float]
    history: list[Record] = field(default_factory=list)


def untrained_members(data: HeteroData, num_neighbors: int = 20) -> Makers:
    r"""Functions that make the members without training: four popularities, the
    cosine of the features of each modality, the walk over interactions and
    graphs of similar items, and EASE.
    """
    edge_index = data[OBSERVED].edge_index
    size = data['user'].num_nodes, data['item'].num_nodes
    features = {
        key[2:]: x for key, x in data['item'].items() if key.startswith('x_')
    }

    def walk() -> Scorer:
        graphs = ItemKNNGraph(num_neighbors, list(features))(data)
        similar = {
            m: graphs['item', f'similar_{m}', 'item'].edge_index
            for m in features
        }
        return random_walk(edge_index, *size, item_graphs=similar)

    makers: Makers = {
        f'popularity:{a}': partial(popularity, edge_index, *size, a)
        for a in USER_EXPONENTS
    }
    for m, x in features.items():
        makers[f'features:{m}'] = partial(
            feature_cosine, edge_index, x, size[0]
        )
    makers['walk'] = walk
    if size[1] <= MAX_EASE_ITEMS:
        reg_weight = EASE_REG_FACTOR * edge_index.size(1) / size[1]
        makers['ease'] = partial(ease, edge_index, *size, reg_weight)
    return makers


def embedding_scorer(embeddings: tuple[Tensor, Tensor]) -> Scorer:
    r"""The product of the embeddings of users and items."""
    user, item = embeddings
    return lambda users: user[users] @ item.t()


def train_ensemble(
    makers: Mapping[str, Callable[[], Scorer]],
    data: HeteroData,
    num_candidates: int = 200,
    k: int = 20,
    report: Callable[[Record], None] = print,
) -> Ensemble:
    r"""Makes the members, and learns their weights from validation."""
    store, start = data[OBSERVED], time.perf_counter()
    size = data['user'].num_nodes, data['item'].num_nodes
    history: list[Record] = []

    def record(name: str, scorer: Scorer, start: float) -> None:
        seconds = time.perf_counter() - start
        val, observed = store.val_edge_label_index, store.edge_index
        metrics = evaluate(scorer, val, observed, k)
        history.append({'name': name, 'seconds': seconds, 'val': metrics})
        report(history[-1])

    scorers: dict[str, Scorer] = {}
    for name, make in makers.items():
        start = time.perf_counter()
        scorers[name] = make()
        record(name, scorers[name], start)

    start = time.perf_counter()
    held_out, observed = (
        CSR.from_edge_index(edge_index, size, coalesce=True)
        for edge_index in (store.val_edge_label_index, store.edge_index)
    )
    found = {
        name: scorer
        for name, scorer in scorers.items()
        if name.split(':')[0] not in ONLY_RANKING
    } or scorers
    retriever = weighted_sum(found, dict.fromkeys(found, 1.0))
    weights = fit_weights(
        scorers, held_out, observed, retriever, num_candidates
    )
    ranker = weighted_sum(scorers, weights)
    scorer = two_stages(retriever, ranker, observed, num_candidates)
    record('ensemble', scorer, start)
    return Ensemble(scorer, weights, history)
