import pytest
import torch

from diffmm_geo.training import RECIPES
from examples import command_line
from examples.experiments import case_study
from examples.experiments.ablation import variants
from examples.experiments.experiment import start
from examples.experiments.models import FLOORS
from examples.experiments.user_groups import even_bins, group_names


def trained(out):
    r"""The lines of trained runs."""
    return [
        line for line in out.splitlines() if ': epoch' in line and ' s)' in line
    ]


def test_ablation(run_experiment, report):
    args = ('ablation', '--seeds', 0, 1)
    assert len(trained(run_experiment(*args, epochs=1))) == 6 * 2
    content, page = report('ablation-shop')
    for name, variant in content['variants'].items():
        assert [r['config']['seed'] for r in variant['runs']] == [0, 1]
        for run in variant['runs']:
            assert run['config'].items() >= variant['changes'].items()
        found = [r['best_val']['test']['recall@20'] for r in variant['runs']]
        assert f'| {name} | {sum(found) / 2:.4f} ± ' in page
    # All runs are loaded, and the results are the same.
    assert trained(run_experiment(*args, epochs=1)) == []
    assert report('ablation-shop') == (content, page)


def test_variants_of_a_recipe():
    changes = variants(RECIPES['tiktok'])
    assert changes['without MSI'] == {'msi_weight': 0.0}
    assert changes['without contrast'] == {'ssl_weight': 0.0}
    generator = {'generator': 'observed', 'generated_weight': 0.0}
    assert changes['without diffusion'] == generator
    assert 'with MSI' not in changes


def test_comparison_shares_runs(run_experiment, report):
    value = ('--parameter', 'ssl_weight', '--values', '1e-2')
    run_experiment('sweep', *value, epochs=1)
    names = ['DiffMM', 'ItemGraph', 'LightGCN', 'MF-BPR']
    models = ('--models', *names, *FLOORS)
    out = run_experiment('comparison', *models, epochs=1)
    lines = trained(out)
    assert lines and not any(line.startswith('DiffMM') for line in lines)
    content, page = report('comparison-shop')
    assert list(content['models']) == [*names, *FLOORS]
    for model, (run,) in content['models'].items():
        val, test = (run['best_val'][s]['recall@20'] for s in ('val', 'test'))
        assert f'\n| {model} | {test:.4f}' in page
        if model in FLOORS:
            line = f'{model}: recall@20 validation {val:.4f}, test {test:.4f}'
            assert line in out
    assert 'Without training: Popularity, ' in page
    # Baselines have the best settings of their grids.
    values = [
        float(line.split('validation ')[1][:6])
        for line in out.splitlines()
        if line.startswith('MF-BPR, ') and ' of ' in line
    ]
    best = content['models']['MF-BPR'][0]['best_val']['val']['recall@20']
    assert len(values) == 7 and max(values) == round(best, 4)


def test_augmentation(run_experiment, report):
    run_experiment('augmentation', '--ratios', 0.5, 0)
    content, page = report('augmentation-shop')
    assert list(content['edges']) == ['diffusion', 'random']
    for generator, ratios in content['edges'].items():
        assert list(ratios) == ['0', '0.5']
        for ratio, (run,) in ratios.items():
            assert run['config']['generator'] == generator
            assert run['config']['generated_weight'] == float(ratio)
    assert '\n| 0.5 | ' in page


def test_user_groups(run_experiment, report):
    models = ('--models', 'DiffMM', 'LightGCN', '--no-tuning')
    run_experiment('user_groups', *models)
    content, _ = report('user-groups-shop')
    assert sum(content['users'].values()) == 30
    run_experiment('user_groups', *models, '--bins', 3, 4)
    content, _ = report('user-groups-shop')
    assert content['users'] == {'≥ 4': 30}
    for model, (run,) in content['models'].items():
        (metrics,) = content['groups'][model]['≥ 4']
        assert metrics == pytest.approx(run['best_val']['test'])


def test_even_groups():
    assert even_bins(torch.tensor([1, 2, 3, 4]), 2) == [3]
    assert even_bins(torch.tensor([2, 2, 2, 9]), 4) == [9]
    assert even_bins(torch.tensor([2, 2]), 3) == []
    assert group_names([3, 4, 8]) == ['< 3', '3', '4–7', '≥ 8']


@pytest.mark.parametrize(
    ('parameter', 'values'),
    [('num_edges_per_user', [1, 10]), ('anchor', ['main', 'modality'])],
)
def test_sweep(run_experiment, report, parameter, values):
    run_experiment('sweep', '--parameter', parameter, '--values', *values)
    content, page = report(f'sweep-shop-{parameter.replace("_", "-")}')
    assert [v['value'] for v in content['values']] == values
    for value in content['values']:
        config = value['runs'][0]['config']
        assert config[parameter] == value['value']
        assert f'\n| {value["value"]} | ' in page


def test_case_study(run_experiment, report):
    run_experiment('case_study', '--edges-per-user', 2, '--user', 4)
    content, page = report('case-study-shop')
    assert content['user'] == 4 and len(content['observed']) == 4
    generated = content['generated'].values()
    assert [len(items) for items in generated] == [2, 2]
    items = content['drawn']['items']
    assert set(items) == set(content['observed']).union(*generated)
    matrix = content['drawn']['similarity']['image']
    assert len(matrix) == len(items) == len(matrix[0])
    assert matrix[0][0] == pytest.approx(1.0)
    assert '| generated by image | ' in page


def test_facts_about_generated_edges():
    x = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    observed = torch.tensor([[0, 0, 1], [0, 2, 3]])
    edges = torch.tensor([[0, 0, 1, 1], [0, 1, 3, 2]])
    # An item does not count itself: (0 + ...) over item 2; -1 and 0 over both;
    # no other; -1 over the only one.
    out = case_study.Similarity(x).to_observed(edges, observed, 2)
    assert out.tolist() == [0.0, -0.5, -1.0]
    among = case_study.is_among(edges, observed, 4)
    assert among.tolist() == [True, False, True, False]
    assert case_study.choose_user(torch.tensor([0, 3, 9, 7]), 8) == 2


def test_cold_items(run_experiment, report, cold_shop):
    models = ('DiffMM', 'ItemGraph', 'VBPR', 'LightGCN')
    models = ('--models', *models, '--no-tuning')
    run_experiment('cold_items', *models, dataset='cold', root=cold_shop)
    content, page = report('cold-items-cold')
    parts = content['num_test_interactions']
    assert parts['all'] == parts['seen items'] + parts['cold items']
    assert parts['cold items'] >= 25
    assert parts['cold items among themselves'] == parts['cold items']
    chance = content['random_recall']['cold items among themselves']
    assert chance == 20 / content['num_cold_items']
    for model, (run,) in content['models'].items():
        metrics = content['items'][model]
        everything = metrics['all'][0]['recall@20']
        assert everything == pytest.approx(run['best_val']['test']['recall@20'])
    before, after = (
        content['items'][name]['cold items'][0]['recall@20']
        for name in ('VBPR', 'VBPR, scaled')
    )
    assert before <= after
    assert f'({parts["cold items"]})' in page


def test_no_cold_items(run_experiment, shop, monkeypatch):
    def without(args, load=command_line.load_data):
        data = load(args)
        store = data['user', 'interacts', 'item']
        store.test_edge_label_index = store.edge_index
        return data

    monkeypatch.setattr(command_line, 'load_data', without)
    with pytest.raises(SystemExit, match='unseen in training'):
        run_experiment('cold_items')


def test_interrupted(capsys):
    def main():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as exit:
        start(main)
    assert exit.value.code == 130
    error = capsys.readouterr().err
    assert error == 'interrupted; repeat the command to resume\n'


@pytest.mark.parametrize(
    'name, args, message',
    [
        ('ablation', ('--seeds', '1', '1'), "'--seeds'"),
        ('ablation', ('--device', 'cuda:99'), "'device'"),
        ('ablation', ('--output', __file__), "'--output' needs to be a folder"),
        ('sweep', ('--parameter', 'weight', '--values', '1'), "'--parameter'"),
        ('sweep', ('--parameter', 'lr', '--values', '1', '0'), "'lr'"),
        ('user_groups', ('--bins', '4', '2'), "'--bins'"),
        ('case_study', ('--user', '30'), "'--user'"),
        ('augmentation', ('--ratios', 'nan'), "'generated_weight'"),
    ],
)
def test_one_line_for_a_wrong_argument(
    run_experiment, tmp_path, name, args, message
):
    with pytest.raises(SystemExit) as exit:
        run_experiment(name, *args)
    assert exit.value.code.startswith('error: ')
    assert message in exit.value.code and '\n' not in exit.value.code
    assert not (tmp_path / 'runs').exists()
