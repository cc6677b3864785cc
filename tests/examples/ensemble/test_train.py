import torch
from torch.testing import assert_close

from diffmm_geo.evaluation import evaluate
from diffmm_geo.nn import MaskedDiffusion, ModalityDiffusion
from diffmm_geo.sparse import CSR
from examples.ensemble import train
from examples.ensemble.denoiser import NAME, embeddings, train_denoiser
from examples.ensemble.train import OBSERVED, train_ensemble, untrained_members


def denoiser(data, **kwargs):
    store = data[OBSERVED]
    edges = store.edge_index, store.val_edge_label_index
    size = data['user'].num_nodes, data['item'].num_nodes
    return train_denoiser(*edges, *size, hidden_channels=8, k=3, **kwargs)


def test_members_and_history(planted, monkeypatch):
    data, seen = planted(), []
    store = data[OBSERVED]
    makers = untrained_members(data, num_neighbors=3)
    ensemble = train_ensemble(makers, data, k=3, report=seen.append)
    names = [
        *(f'popularity:{a}' for a in train.USER_EXPONENTS),
        *('features:image', 'features:text', 'walk', 'ease'),
    ]
    assert list(makers) == list(ensemble.weights) == names
    assert [record['name'] for record in seen] == [*names, 'ensemble']
    assert seen == ensemble.history
    val = store.val_edge_label_index, store.edge_index
    assert seen[-1]['val'] == evaluate(ensemble.scorer, *val, 3)
    assert seen[-1]['val']['recall@3'] > seen[0]['val']['recall@3']

    monkeypatch.setattr(train, 'MAX_EASE_ITEMS', 3)
    assert 'ease' not in untrained_members(data)


def test_what_retrieves_candidates(planted, monkeypatch):
    data, asked = planted(), []

    def ones(users):
        asked.append(users.numel())
        return torch.rand(users.numel(), data['item'].num_nodes)

    def retrieved(scorers, weights):
        sums.append(list(scorers))
        return weighted_sum(scorers, weights)

    weighted_sum, sums = train.weighted_sum, []
    monkeypatch.setattr(train, 'weighted_sum', retrieved)
    for names, expected in (
        (['popularity:0.0', 'walk', 'ease'], ['walk', 'ease']),
        # Others do only if they are the only ones.
        (['popularity:0.0'], ['popularity:0.0']),
    ):
        sums.clear()
        makers = {name: lambda: ones for name in names}
        train_ensemble(makers, data, k=3, report=lambda _: None)
        assert sums == [expected, names]


def test_denoiser_learns_communities(planted):
    data = planted()
    store = data[OBSERVED]
    val = store.val_edge_label_index, store.edge_index, 3
    torch.manual_seed(0)
    state = torch.get_rng_state()
    out = denoiser(data, num_epochs=40, lr=2e-2, batch_size=7)
    assert torch.get_rng_state().equal(state)
    first = denoiser(data, num_epochs=1, batch_size=7)
    recall = evaluate(*out, *val)['recall@3']
    assert recall > max(0.75, evaluate(*first, *val)['recall@3'])
    again = denoiser(data, num_epochs=1, batch_size=7)
    other = denoiser(data, num_epochs=1, batch_size=7, seed=1)
    assert first[1].equal(again[1]) and not first[1].equal(other[1])


def test_denoiser_scores_are_those_of_the_whole_row(planted):
    data = planted()
    size = data['user'].num_nodes, data['item'].num_nodes
    lists = CSR.from_edge_index(data[OBSERVED].edge_index, size, coalesce=True)
    model = ModalityDiffusion(
        size[1], [NAME], MaskedDiffusion(), hidden_channels=8
    )
    user, item = embeddings(model, lists)
    expected = model.sample(NAME, lists.dense(item))
    assert_close((user @ item.t()).log_softmax(dim=1), expected)
