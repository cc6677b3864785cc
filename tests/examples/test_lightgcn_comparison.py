import json


def test_chooses_by_validation(run_example, shop, tmp_path):
    output = tmp_path / 'comparison.json'
    out = run_example(
        'lightgcn_comparison.py',
        *('--dataset', 'shop', '--root', shop, '--epochs', 2),
        *('--layers', 1, 2, '--reg-weights', 1e-4, '--seeds', 3, 4),
        *('--output', output),
    )
    assert out.returncode == 0, out.stderr
    result = json.loads(output.read_text())
    assert len(result['LightGCN']) == len(result['DiffMM']) == 2
    lines = [x for x in out.stdout.splitlines() if x.startswith('LightGCN, ')]
    # The grid runs on the first seed, the chosen setting on the others.
    assert [x.split('seed ')[1][0] for x in lines] == ['3', '3', '4']
    values = [float(x.split('validation ')[1][:6]) for x in lines[:2]]
    chosen = 1 + values.index(max(values))
    assert f'LightGCN: {chosen} layers, reg 0.0001 by val' in out.stdout


def test_one_line_for_a_wrong_argument(run_example, tmp_path):
    output = tmp_path / 'comparison.json'
    out = run_example(
        'lightgcn_comparison.py', '--dataset', 'shpo', '--output', output
    )
    assert out.returncode != 0 and not output.exists()
    assert "'shpo'" in out.stderr and 'Traceback' not in out.stderr
