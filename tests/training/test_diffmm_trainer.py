import math

import pytest
import torch
from torch.testing import assert_close

from diffmm_geo.nn import DiffMM, ModalityDiffusion
from diffmm_geo.training import RECIPES, DiffMMConfig, DiffMMTrainer
from tests.tasks.task_protocol import OBSERVED, Protocol, weights_of
from tests.wrong_values import wrong_values


class TestDiffMMTrainer(Protocol):
    def make(self, data, edge_type=OBSERVED, modalities=None, **kwargs):
        kwargs = {
            'batch_size': 32,
            'embedding_dim': 8,
            'hidden_channels': 8,
            'k': 3,
            # Standardized, the features tell communities before training.
            'standardize': False,
            **kwargs,
        }
        return DiffMMTrainer(
            data, DiffMMConfig(**kwargs), modalities, edge_type=edge_type
        )

    def test_graphs_of_an_epoch(self, planted):
        trainer = self.make(planted(), num_epochs=1, num_edges_per_user=2)
        assert list(trainer.edge_index_dict) == [OBSERVED]
        history = trainer.fit()
        assert list(trainer.edge_index_dict) == [
            OBSERVED,
            ('user', 'denoised_image', 'item'),
            ('user', 'denoised_text', 'item'),
        ]
        for m in ('image', 'text'):
            expected = trainer.diffusion.sample_edges(
                m, trainer.edge_index, 32, 2
            )
            actual = trainer.edge_index_dict['user', f'denoised_{m}', 'item']
            assert actual.equal(expected)
        assert list(history[0]['loss']) == [
            'diffusion_image',
            'diffusion_text',
            'bpr',
            'reg',
            'contrastive',
        ]
        assert sorted(history[0]['seconds']) == [
            'diffusion',
            'evaluate',
            'generate',
            'recommend',
        ]
        out = trainer.model(trainer.feature_dict, trainer.edge_index_dict)
        assert_close(trainer.embeddings(), (out['user'], out['item']))

    @pytest.mark.parametrize(
        'settings',
        [
            {'precision': 'bf16'},
            {'diffusion_form': 'dense'},
            {'diffusion_form': 'gram'},
            {'diffusion_form': 'sampled'},
            {'num_candidates': 8},
            {'num_generated_from': 5},
        ],
    )
    def test_faster_ways_learn_communities(self, planted, settings):
        trainer = self.make(planted(), num_epochs=40, lr=2e-2, **settings)
        trainer.fit()
        assert trainer.evaluate('val')['recall@3'] > 0.75
        if 'num_generated_from' in settings:
            generated = trainer.edge_index_dict[
                'user', 'denoised_image', 'item'
            ]
            assert generated[1].unique().numel() <= 5

    def test_only_large_products_are_in_low_precision(self, planted):
        exact = self.make(planted(), num_epochs=1).fit()[0]
        trainer = self.make(planted(), num_epochs=1, precision='bf16')
        record = trainer.fit()[0]
        for name, value in record['loss'].items():
            assert value == pytest.approx(exact['loss'][name], rel=0.05)
        assert record['loss'] != exact['loss']
        modules = trainer.model, trainer.diffusion
        for p in (p for module in modules for p in module.parameters()):
            assert p.dtype == torch.float

    def test_state_dict_holds_the_graphs(self, planted):
        trainer = self.make(planted(), num_epochs=2)
        trainer.fit()
        other = self.make(planted())
        other.load_state_dict(trainer.state_dict())
        for edge_type, edge_index in trainer.edge_index_dict.items():
            assert other.edge_index_dict[edge_type].equal(edge_index)

    def test_both_optimizers_train(self, planted):
        trainer = self.make(planted(), num_epochs=1)
        before = weights_of(trainer)
        weight = trainer.diffusion.denoisers['text'].item_weight.clone()
        trainer.fit()
        for old, new in zip(before, weights_of(trainer)):
            assert not old.equal(new)
        after = trainer.diffusion.denoisers['text'].item_weight
        assert not after.equal(weight)

    @pytest.mark.parametrize('anchor', ['modality', 'main'])
    def test_without_contrastive_loss(self, planted, anchor):
        with_loss = self.make(planted(), num_epochs=1, anchor=anchor).fit()
        assert with_loss[0]['loss']['contrastive'] > 0
        trainer = self.make(planted(), num_epochs=1, ssl_weight=0.0)
        assert trainer.fit()[0]['loss']['contrastive'] == 0

    def test_without_dropout_and_msi(self, planted):
        trainer = self.make(
            planted(),
            num_epochs=1,
            keep_rate=1.0,
            msi_weight=0.0,
            projection='leaky_xavier',
        )
        assert all(math.isfinite(v) for v in trainer.fit()[0]['loss'].values())

    def test_some_modalities(self, planted):
        trainer = self.make(planted(), modalities=['text'], num_epochs=1)
        assert trainer.model.modalities == ['text']
        assert 'diffusion_image' not in trainer.fit()[0]['loss']

    def test_features_in_double(self, planted):
        data = planted()
        for m in ('image', 'text'):
            data['item'][f'x_{m}'] = data['item'][f'x_{m}'].double()
        self.make(data, num_epochs=1).fit()

    def test_given_model_and_diffusion(self, planted):
        model = DiffMM(32, 24, {'image': 4, 'text': 5}, 6)
        diffusion = ModalityDiffusion(
            24, ['image', 'text'], hidden_channels=[4, 6]
        )
        trainer = DiffMMTrainer(
            planted(),
            DiffMMConfig(num_epochs=1, k=3),
            model=model,
            diffusion=diffusion,
        )
        assert trainer.model is model
        assert trainer.diffusion is diffusion
        trainer.fit()

    @pytest.mark.parametrize(
        'x',
        [
            *[torch.randn(23, 5), torch.ones(24, 5).long(), torch.randn(24)],
            torch.full((24, 5), math.nan),
        ],
    )
    def test_bad_features(self, planted, x):
        data = planted()
        data['item'].x_text = x
        with pytest.raises(ValueError, match="'x_text'"):
            self.make(data)

    def test_unknown_modality(self, planted):
        with pytest.raises(ValueError, match="'modalities'"):
            self.make(planted(), modalities=['audio'])

    def test_no_features(self, planted):
        data = planted(modalities=[])
        with pytest.raises(ValueError, match="'data' needs item features"):
            self.make(data)


@wrong_values(
    num_epochs=[0],
    patience=[0],
    batch_size=[0],
    lr=[0.0],
    reg_weight=[-1.0],
    k=[0],
    seed=[-1],
    ssl_weight=[-1.0],
    keep_rate=[0.0],
    msi_weight=[math.nan],
    num_edges_per_user=[0],
    batching=['mini'],
    num_neighbors=[(5, 0, 5), 5, '555'],
)
def test_bad_config(name, value):
    with pytest.raises(ValueError, match=f"'{name}'"):
        DiffMMConfig(**{name: value})


def test_cuda_graphs_need_all_of_the_graphs():
    with pytest.raises(ValueError, match="'cuda_graphs' needs batching='full'"):
        DiffMMConfig(cuda_graphs=True, batching='neighbor')


def test_recipes():
    # Shared by all recipes of the paper's authors.
    for name in ('tiktok', 'amazon-baby', 'amazon-sports'):
        recipe = RECIPES[name]
        shared = (recipe.num_epochs, recipe.embedding_dim, recipe.num_steps)
        assert shared == (50, 64, 5)
    assert RECIPES['tiktok'].anchor == 'main'
    assert RECIPES['amazon-baby'].projection == 'leaky_xavier'
    assert RECIPES['amazon-sports'].temperature == 0.1
