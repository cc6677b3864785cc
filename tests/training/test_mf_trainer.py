import pytest
import torch
from torch.testing import assert_close

from diffmm_geo.training import MFConfig, MFTrainer
from tests.training.trainer_protocol import OBSERVED, Protocol


class TestMFTrainer(Protocol):
    def make(self, data, edge_type=OBSERVED, **kwargs):
        kwargs = {'batch_size': 32, 'embedding_dim': 8, 'k': 3, **kwargs}
        return MFTrainer(data, MFConfig(**kwargs), edge_type)

    def test_loss(self, planted):
        trainer = self.make(planted(), reg_weight=0.1)
        user, item = trainer.embeddings()
        u, i, j = (torch.tensor(x) for x in ([0, 5, 0], [1, 2, 3], [4, 4, 1]))
        margin = (user[u] * (item[i] - item[j])).sum(dim=-1)
        bpr = -torch.sigmoid(margin).log().mean()
        reg = sum(x.square().sum() for x in (user[u], item[i], item[j])) / 3
        assert_close(trainer._loss(u, i, j), torch.stack([bpr, 0.1 * reg]))

    def test_embeddings_are_no_parameters(self, planted):
        for x in self.make(planted()).embeddings():
            assert not x.requires_grad


def test_bad_config():
    with pytest.raises(ValueError, match="'embedding_dim'"):
        MFConfig(embedding_dim=0)
