import re

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

    data = ('--dataset', 'new', '--root', tmp_path)
    out = run_example('new_items.py', *data, '--epochs', 1, '--k', 2)
    assert out.returncode == 0, out.stderr
    first, *rows = out.stdout.splitlines()
    assert first.startswith('18 of 45 test interactions are with some of 8 ')
    assert [row.split(':')[0] for row in rows] == [
        'In training',
        'The same without their ID embeddings',
        'Added by their features',
        'Added with the mean ID embedding of items seen once',
    ]
    values = [re.findall(r' (\d\.\d{4})', row) for row in rows]
    assert all(len(x) == 3 for x in values)
    assert all(0 <= float(x) <= 1 for row in values for x in row)
