import json

import numpy as np


def test_all_rows(run_example, tmp_path):
    # Items 36 to 39 are in the test set only.
    lines = ['userID\titemID\trating\ttimestamp\tx_label']
    for user in range(30):
        items = [*np.random.default_rng(user).permutation(36)[:5]]
        items += [36 + user % 4] if user % 2 else []
        for n, item in enumerate(items):
            lines.append(f'{user}\t{item}\t1\t0\t{max(0, min(n - 2, 2))}')
    (tmp_path / 'raw').mkdir()
    (tmp_path / 'raw' / 'new.inter').write_text('\n'.join(lines) + '\n')
    for name in ('image', 'text'):
        x = np.random.default_rng(0).normal(size=(40, 8))
        np.save(tmp_path / 'raw' / f'{name}_feat.npy', x.astype('f4'))

    output = tmp_path / 'cold.json'
    out = run_example(
        'new_items.py',
        *('--dataset', 'new', '--root', tmp_path, '--epochs', 1, '--k', 2),
        *('--seeds', 3, '--output', output),
    )
    assert out.returncode == 0, out.stderr
    (run,) = json.loads(output.read_text())['runs']
    assert list(run) == [
        'DiffMM',
        'DiffMM, cold items without ID embedding',
        'DiffMM, cold items added by their features',
        'DiffMM, added with the mean ID embedding of items seen once',
    ]
    for name, values in run.items():
        assert list(values) == ['all', 'cold among all', 'cold among cold']
        assert all(0 <= x <= 1 for x in values.values())
        assert f'\n{name}\n' in out.stdout


def test_one_line_where_nothing_is_cold(run_example, shop, tmp_path):
    output = tmp_path / 'cold.json'
    data = ('--dataset', 'shop', '--root', shop)
    out = run_example('new_items.py', *data, '--output', output)
    assert out.returncode != 0 and not output.exists()
    assert 'cold item' in out.stderr and 'Traceback' not in out.stderr
