import pytest
import torch
from torch.testing import assert_close

from diffmm_geo.training import ItemGraphConfig, ItemGraphTrainer
from diffmm_geo.transforms import ItemKNNGraph
from tests.tasks.task_protocol import OBSERVED, Protocol
from tests.wrong_values import wrong_values


class TestItemGraphTrainer(Protocol):
    def make(self, data, edge_type=OBSERVED, modalities=None, **kwargs):
        kwargs = {
            'batch_size': 32,
            'embedding_dim': 8,
            'num_neighbors': 3,
            'objective': 'bpr',
            'k': 3,
            **kwargs,
        }
        config = ItemGraphConfig(**kwargs)
        return ItemGraphTrainer(data, config, modalities, edge_type)

    def test_makes_the_graphs_that_data_lack(self, planted):
        data = planted()
        task = self.make(data).task
        expected = ItemKNNGraph(k=3)(data)
        for m in ('image', 'text'):
            t = ('item', f'similar_{m}', 'item')
            assert task.edge_index_dict[t].equal(expected[t].edge_index)
            assert t not in data.edge_types
        t = ('item', 'similar_image', 'item')
        data[t].edge_index = torch.tensor([[0, 1], [1, 0]])
        task = self.make(data).task
        assert task.edge_index_dict[t].equal(data[t].edge_index)

    def test_scale_of_features_does_not_matter(self, planted):
        expected = self.make(planted(), num_epochs=3).fit()
        data = planted()
        data['item'].x_text = 1500.0 * data['item'].x_text + 80.0
        history = self.make(data, num_epochs=3).fit()
        for one, other in zip(history, expected):
            assert_close(one['loss'], other['loss'], rtol=1e-3, atol=1e-4)

    def test_softmax(self, planted):
        trainer = self.make(
            planted(),
            num_epochs=30,
            lr=2e-2,
            objective='softmax',
            num_negatives=16,
        )
        history = trainer.fit()
        assert list(history[0]['loss']) == ['softmax', 'reg', 'contrastive']
        assert trainer.best_val['val']['recall@3'] > 0.75

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

    def test_resume_with_other_features(self, planted, tmp_path):
        self.make(planted(), num_epochs=1).fit(checkpoint_dir=tmp_path)
        data = planted()
        data['item'].x_text += 1.0
        with pytest.raises(ValueError, match="'data'.*'x_text'"):
            self.make(data).fit(checkpoint_dir=tmp_path, resume=True)


@wrong_values(
    embedding_dim=[0],
    num_layers=[-1],
    num_neighbors=[0],
    ssl_weight=[-1.0],
    temperature=[0.0],
    num_candidates=[0],
    objective=['mse'],
    num_negatives=[0],
    user_exponent=[-0.5],
)
def test_bad_config(name, value):
    with pytest.raises(ValueError, match=f"'{name}'"):
        ItemGraphConfig(**{name: value})
