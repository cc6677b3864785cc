r"""How the transform trains by default: until held-out interactions are no
longer found better.
"""

import pytest
import torch

from diffmm_geo.nn import ModalityDiffusion
from diffmm_geo.sparse import CSR
from diffmm_geo.transforms import ModalityAwareGraphDiffusion
from diffmm_geo.transforms.held_out_stop import HeldOutStop, hold_out

OBSERVED = ('user', 'interacts', 'item')
U, I = 64, 96


@pytest.fixture
def data(planted):
    return planted(U, I)


def fit(data, patience=3, **kwargs):
    torch.manual_seed(1)
    diffusion = ModalityDiffusion(I, ['image', 'text'], hidden_channels=16)
    transform = ModalityAwareGraphDiffusion(diffusion)
    options = {'batch_size': 16, 'lr': 1e-2, 'patience': patience, **kwargs}
    return transform.fit(data, **options)


def test_one_interaction_of_a_user_is_held_out(data):
    edges = data[OBSERVED].edge_index
    alone = torch.tensor([[U], [0]])  # Has one interaction, and keeps it.
    edges = torch.cat([edges, alone], dim=1)
    rest, held_out = hold_out(CSR.from_edge_index(edges, (U + 1, I)))
    assert held_out[0].tolist() == list(range(U))
    pairs = [*rest.edge_index.t().tolist(), *held_out.t().tolist()]
    assert sorted(pairs) == sorted(edges.t().tolist())


def test_stops_and_keeps_the_best_weights(data, monkeypatch):
    stops, recalls, measure = [], {'image': [], 'text': []}, HeldOutStop.recall

    def spied(self, modality):
        stops.append(self)
        recalls[modality].append(measure(self, modality))
        return recalls[modality][-1]

    monkeypatch.setattr(HeldOutStop, 'recall', spied)
    trained, train = [], ModalityDiffusion.train_epoch
    monkeypatch.setattr(
        ModalityDiffusion,
        'train_epoch',
        lambda self, a, b, c, emb_dict, *args: (
            trained.append(list(emb_dict))
            or train(self, a, b, c, emb_dict, *args)
        ),
    )
    monkeypatch.setattr(
        ModalityDiffusion, 'place_unobserved', lambda self, lists: None
    )
    fit(data)
    for m, values in recalls.items():
        best = values.index(max(values))
        assert len(values) == best + 1 + 3  # The patience.
        assert sum(m in modalities for modalities in trained) == len(values)
        assert measure(stops[-1], m) == max(values)


def test_a_seed_repeats_training(data):
    first, second = (fit(data) for _ in range(2))
    states = [x.diffusion.state_dict() for x in (first, second)]
    assert all(x.equal(states[1][name]) for name, x in states[0].items())
    outs = [transform(data.clone()) for transform in (first, second)]
    key = 'user', 'denoised_text', 'item'
    assert outs[0][key].edge_index.equal(outs[1][key].edge_index)


def test_a_user_with_two_interactions_is_needed(planted):
    data = planted(U, I, num_train=1)
    with pytest.raises(ValueError, match="'num_epochs' needs to be given"):
        fit(data)
    fit(data, num_epochs=1)


def test_features_decide_which_edges_are_generated(data):
    # Three interactions among 96 items say little of who belongs together.
    def in_community():
        edge_index = fit(data, 10)(data)['user', 'denoised_image', 'item']
        user, item = edge_index.edge_index
        assert user.numel() == 5 * U
        return float((user % 4 == item % 4).float().mean())

    real = in_community()
    data['item'].x_image = data['item'].x_image[torch.randperm(I)]
    assert real > 0.9 and in_community() < 0.7
