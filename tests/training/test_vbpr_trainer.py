import math

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from diffmm_geo.training import VBPRConfig, VBPRTrainer
from tests.training.trainer_protocol import OBSERVED, Protocol


class TestVBPRTrainer(Protocol):
    def make(self, data, edge_type=OBSERVED, modalities=None, **kwargs):
        kwargs = {
            'batch_size': 32,
            'embedding_dim': 8,
            'feature_dim': 4,
            'k': 3,
            **kwargs,
        }
        return VBPRTrainer(data, VBPRConfig(**kwargs), modalities, edge_type)

    def test_score(self, planted):
        data = planted()
        trainer = self.make(data, num_epochs=2, lr=0.1)
        trainer.fit()
        model = trainer.model
        assert 'feature' not in model.state_dict()
        f = torch.cat(
            [F.normalize(data['item'][f'x_{m}']) for m in ('image', 'text')],
            dim=-1,
        )
        expected = (
            model.user_emb.weight @ model.item_emb.weight.t()
            + model.user_taste.weight @ model.projection.weight @ f.t()
            + model.item_bias.weight.t()
            + model.feature_bias.weight @ f.t()
        )
        assert model.item_bias.weight.any() and model.feature_bias.weight.any()
        user, item = trainer.embeddings()
        assert_close(user @ item.t(), expected)

    def test_loss(self, planted):
        trainer = self.make(planted(), reg_weight=0.1)
        user, item = trainer.embeddings()
        u, i, j = (torch.tensor(x) for x in ([0, 5, 0], [1, 2, 3], [4, 4, 1]))
        margin = (user[u] * (item[i] - item[j])).sum(dim=-1)
        bpr = -torch.sigmoid(margin).log().mean()
        # Projected features are not regularised, and biases are still zero.
        parts = user[u, :-1], item[i, :8], item[j, :8]
        reg = sum(x.square().sum() for x in parts) / 3
        assert_close(trainer._loss(u, i, j), torch.stack([bpr, 0.1 * reg]))

    def test_regularised_projection(self, planted):
        trainer = self.make(planted())
        args = (
            torch.tensor([0, 5]),
            torch.tensor([1, 2]),
            torch.tensor([4, 4]),
        )
        expected = trainer._loss(*args)
        lins = trainer.model.projection, trainer.model.feature_bias
        expected[1] += 0.5 * sum(x.weight.square().sum() for x in lins)
        other = self.make(planted(), feature_reg_weight=0.5)
        assert_close(other._loss(*args), expected)

    def test_learns_about_items_without_interactions(self, planted):
        data = planted()
        store = data[OBSERVED]
        store.edge_index = store.edge_index[:, store.edge_index[1] >= 4]
        trainer = self.make(data, num_epochs=40, lr=2e-2)
        trainer.fit()
        user, item = trainer.embeddings()
        # One item of each community.
        own = torch.arange(32) % 4
        found = (user @ item[:4].t()).argmax(dim=-1)
        assert (found == own).float().mean() > 0.75

    def test_some_modalities(self, planted):
        trainer = self.make(planted(), modalities=['text'], num_epochs=1)
        assert trainer.model.feature.size() == (24, 5)
        trainer.fit()

    def test_features_in_double(self, planted):
        data = planted()
        data['item'].x_text = data['item'].x_text.double()
        self.make(data, num_epochs=1).fit()

    def test_bad_features(self, planted):
        data = planted()
        data['item'].x_text = torch.full((24, 5), math.nan)
        with pytest.raises(ValueError, match="'x_text'"):
            self.make(data)

    def test_unknown_modality(self, planted):
        with pytest.raises(ValueError, match="'modalities'"):
            self.make(planted(), modalities=['audio'])


@pytest.mark.parametrize(
    'name, value', [('feature_dim', 0), ('feature_reg_weight', -1.0)]
)
def test_bad_config(name, value):
    with pytest.raises(ValueError, match=f"'{name}'"):
        VBPRConfig(**{name: value})
