import torch
from torch.testing import assert_close
from torch_geometric.nn import LightGCN

from diffmm_geo.training import LightGCNConfig, LightGCNTrainer
from tests.tasks.task_protocol import OBSERVED, Protocol


class TestLightGCNTrainer(Protocol):
    def make(self, data, edge_type=OBSERVED, **kwargs):
        kwargs = {'batch_size': 32, 'embedding_dim': 8, 'k': 3, **kwargs}
        return LightGCNTrainer(data, LightGCNConfig(**kwargs), edge_type)

    def test_embeddings_are_those_of_light_gcn(self, planted):
        trainer = self.make(planted(), num_layers=3)
        assert isinstance(trainer.model, LightGCN)
        user, item = planted()[OBSERVED].edge_index
        joint = torch.stack(
            [torch.cat([user, item + 32]), torch.cat([item + 32, user])]
        )
        model = LightGCN(56, 8, 3)
        model.load_state_dict(trainer.model.state_dict())
        expected = model.get_embedding(joint)
        out = torch.cat(trainer.embeddings())
        assert_close(out, expected)
