import math

import pytest
import torch
import torch.nn.functional as F

from diffmm_geo.training import VBPRConfig, VBPRTrainer
from tests.tasks.task_protocol import OBSERVED, Protocol
from tests.wrong_values import wrong_values


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

    def test_features(self, planted):
        data = planted()
        data['item'].x_text = data['item'].x_text.double()
        expected = torch.cat(
            [F.normalize(data['item'][f'x_{m}']) for m in ('image', 'text')],
            dim=-1,
        ).float()
        torch.testing.assert_close(self.make(data).model.feature, expected)
        text = self.make(data, modalities=['text']).model.feature
        torch.testing.assert_close(text, expected[:, 4:])

    def test_regularized_projection(self, planted):
        batch = torch.tensor([[0, 5], [1, 2], [4, 4]])
        task = self.make(planted()).task
        lins = task.model.projection, task.model.feature_bias
        expected = task.loss(batch)['reg']
        expected = expected + 0.5 * sum(x.weight.square().sum() for x in lins)
        other = self.make(planted(), feature_reg_weight=0.5).task
        torch.testing.assert_close(other.loss(batch)['reg'], expected)

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

    def test_bad_features(self, planted):
        data = planted()
        data['item'].x_text = torch.full((24, 5), math.nan)
        with pytest.raises(ValueError, match="'x_text'"):
            self.make(data)
        with pytest.raises(ValueError, match="'modalities'"):
            self.make(planted(), modalities=['audio'])

    def test_resume_with_other_features(self, planted, tmp_path):
        self.make(planted(), num_epochs=1).fit(checkpoint_dir=tmp_path)
        data = planted()
        data['item'].x_text += 1.0
        with pytest.raises(ValueError, match="'data'.*'feature'"):
            self.make(data).fit(checkpoint_dir=tmp_path, resume=True)


@wrong_values(feature_dim=[0], feature_reg_weight=[-1.0])
def test_bad_config(name, value):
    with pytest.raises(ValueError, match=f"'{name}'"):
        VBPRConfig(**{name: value})
