import pytest

from diffmm_geo.nn import MF
from diffmm_geo.training import MFConfig, MFTrainer
from tests.tasks.task_protocol import OBSERVED, Protocol


class TestMFTrainer(Protocol):
    def make(self, data, edge_type=OBSERVED, **kwargs):
        kwargs = {'batch_size': 32, 'embedding_dim': 8, 'k': 3, **kwargs}
        return MFTrainer(data, MFConfig(**kwargs), edge_type)

    def test_model(self, planted):
        model = self.make(planted()).model
        assert isinstance(model, MF) and str(model) == (
            'MF(32, 24, embedding_dim=8)'
        )


def test_bad_config():
    with pytest.raises(ValueError, match="'embedding_dim'"):
        MFConfig(embedding_dim=0)
