import sys
import warnings

import pytest
import torch
from torch.testing import assert_close

from benchmarks.operations import operations_per_step
from diffmm_geo.evaluation import generation_metrics
from diffmm_geo.nn import DiffMM, MaskedDiffusion, ModalityDiffusion
from diffmm_geo.training import RECIPES, DiffMMConfig, DiffMMTrainer
from tests.tasks.task_protocol import OBSERVED, Protocol

GENERATED = {m: ('user', f'denoised_{m}', 'item') for m in ('image', 'text')}


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

    @pytest.mark.parametrize('exclude_observed', [False, True])
    def test_graphs_of_an_epoch(self, planted, exclude_observed):
        trainer = self.make(
            planted(),
            num_epochs=1,
            num_edges_per_user=2,
            exclude_observed=exclude_observed,
        )
        assert list(trainer.edge_index_dict) == [OBSERVED]
        diffusion = trainer.task.diffusion
        weights = [*trainer.model.parameters(), *diffusion.parameters()]
        before = [p.detach().clone() for p in weights]
        history = trainer.fit()
        assert not any(map(torch.equal, before, weights))
        assert list(trainer.edge_index_dict) == [OBSERVED, *GENERATED.values()]
        for m, edge_type in GENERATED.items():
            edge_index = trainer.edge_index_dict[edge_type]
            expected = diffusion.sample_edges(
                *(m, trainer.edge_index, 32, 2),
                exclude_observed=exclude_observed,
            )
            assert edge_index.equal(expected)
            measured = history[0]['generated'][m]
            assert (measured['observed'] == 0) == exclude_observed
            assert measured == generation_metrics(
                edge_index,
                trainer.edge_index,
                trainer.task.edge_label_index['val'],
                24,
            )
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
        other = self.make(planted())
        other.task.set_state(trainer.task.get_state())
        for edge_type, edge_index in trainer.edge_index_dict.items():
            assert other.edge_index_dict[edge_type].equal(edge_index)

    def test_warns_once_of_bad_denoisers(self, planted):
        trainer = self.make(planted(), num_epochs=3, diffusion_lr=1e-9)
        for denoiser in trainer.task.diffusion.denoisers.values():
            with torch.no_grad():
                denoiser.lin_out.bias[:3] = 9.0
        with pytest.warns(UserWarning, match='worse than popularity') as seen:
            trainer.fit()
        messages = [str(w.message) for w in seen]
        assert sum('worse than popularity' in x for x in messages) == 1

    def test_multinomial_denoisers_know_communities(self, planted):
        trainer = self.make(
            planted(),
            num_epochs=15,
            lr=1e-9,
            diffusion_lr=1e-2,
            diffusion_batch_size=4,
            likelihood='multinomial',
            exclude_observed=True,
            num_edges_per_user=3,
        )
        assert type(trainer.task.diffusion.diffusion) is MaskedDiffusion
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # The best epoch is the first.
            record = trainer.fit()[-1]
        # Three of six items of a community are left, one of them held out.
        for m in ('image', 'text'):
            assert record['generated'][m]['recall'] > 0.9

    @pytest.mark.parametrize('projection', ['linear', 'leaky_xavier'])
    def test_scale_and_shift_of_features_do_not_matter(
        self, planted, projection
    ):
        def run(change):
            data = planted()
            data['item'].x_image = change(data['item'].x_image)
            trainer = self.make(
                data,
                num_epochs=3,
                standardize=True,
                projection=projection,
                msi_weight=10.0,
            )
            trainer.fit()
            return trainer.edge_index_dict, trainer.embeddings()

        graphs, embeddings = run(lambda x: x)
        for change in (
            lambda x: 1000 * x,
            lambda x: x + 5,
            lambda x: 1000 * x.double() - 3e4,
        ):
            others, other_embeddings = run(change)
            for edge_type, edge_index in graphs.items():
                assert others[edge_type].equal(edge_index)
            assert_close(other_embeddings, embeddings, rtol=1e-2, atol=1e-4)
        _, embeddings = run(lambda x: torch.full_like(x, 0.1))
        assert all(x.isfinite().all() for x in embeddings)

    @pytest.mark.parametrize(
        'settings',
        [
            {'precision': 'bf16'},
            {'diffusion_form': 'dense'},
            {'diffusion_form': 'gram', 'likelihood': 'gaussian'},
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
        modules = trainer.model, trainer.task.diffusion
        for p in (p for module in modules for p in module.parameters()):
            assert p.dtype == torch.float

    def test_parts_that_are_left_out(self, planted):
        trainer = self.make(
            planted(), modalities=['text'], num_epochs=1, ssl_weight=0.0
        )
        losses = trainer.fit()[0]['loss']
        assert list(losses) == ['diffusion_text', 'bpr', 'reg', 'contrastive']
        assert losses['contrastive'] == 0

    def test_given_model_and_diffusion(self, planted):
        model = DiffMM(32, 24, {'image': 4, 'text': 5}, 6)
        diffusion = ModalityDiffusion(
            24, ['image', 'text'], hidden_channels=[4, 6]
        )
        trainer = DiffMMTrainer(
            planted(), DiffMMConfig(k=3), model=model, diffusion=diffusion
        )
        assert trainer.model is model
        assert trainer.task.diffusion is diffusion
        with pytest.raises(ValueError, match="'data' needs item features"):
            DiffMMTrainer(planted(modalities=[]))


def test_resume_with_other_features(planted, tmp_path):
    data, config = planted(), DiffMMConfig(num_epochs=1, k=3, embedding_dim=4)
    DiffMMTrainer(data, config).fit(checkpoint_dir=tmp_path)
    data['item'].x_text += 1.0
    with pytest.raises(ValueError, match="'data'.*'x_text'"):
        DiffMMTrainer(data, config).fit(checkpoint_dir=tmp_path, resume=True)


def test_state_restores_features_of_denoisers(planted):
    config = DiffMMConfig(num_epochs=1, k=3, hidden_channels=8)
    trainer, other = (DiffMMTrainer(planted(), config) for _ in range(2))
    diffusion = trainer.task.diffusion
    for m, x in trainer.feature_dict.items():
        assert diffusion.denoisers[m].num_channels == x.size(1)
    trainer.fit()
    zeros = {m: torch.zeros_like(x) for m, x in trainer.feature_dict.items()}
    other.task.diffusion.set_features(zeros, torch.arange(24) < 5)
    other.task.set_state(trainer.task.get_state())
    expected = diffusion.state_dict()
    assert_close(other.task.diffusion.state_dict(), expected, rtol=0, atol=0)
    # Features that a diffusion brings along stay.
    given = ModalityDiffusion(24, ['image', 'text'], hidden_channels=8)
    given.set_features(zeros)
    DiffMMTrainer(planted(), config, diffusion=given)
    assert not any(x.feature.any() for x in given.denoisers.values())


def test_recipes():
    # Shared by all recipes of the paper's authors.
    for name in ('tiktok', 'amazon-baby', 'amazon-sports'):
        recipe = RECIPES[name]
        shared = (recipe.num_epochs, recipe.embedding_dim, recipe.num_steps)
        assert shared == (50, 64, 5)
        paper = recipe.likelihood, recipe.standardize, recipe.exclude_observed
        assert paper == ('gaussian', False, False)
    assert RECIPES['tiktok'].anchor == 'main'
    assert RECIPES['amazon-baby'].projection == 'leaky_xavier'
    assert RECIPES['amazon-sports'].temperature == 0.1


@pytest.mark.parametrize('onednn', [False, True])
def test_operations_of_a_step(planted, monkeypatch, onednn):
    # The count does not depend on the size of the graph.
    blockwise = sys.modules['diffmm_geo.ops.info_nce.blockwise']
    monkeypatch.setattr(blockwise, 'prefers_onednn', lambda: onednn)
    count = {}
    for precision, num_candidates in (('fp32', None), ('bf16', 8)):
        config = DiffMMConfig(
            batch_size=32,
            keep_rate=0.5,
            precision=precision,
            num_candidates=num_candidates,
            standardize=False,
        )
        trainer = DiffMMTrainer(planted(), config)
        trainer.task.set_graphs(trainer.task.generate())
        count[precision] = operations_per_step(trainer)['operations_per_step']
    assert count['bf16'] <= count['fp32'] <= 346, count
