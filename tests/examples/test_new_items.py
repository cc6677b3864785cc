import re


def test_all_rows(run_example, cold_shop):
    data = ('--dataset', 'cold', '--root', cold_shop)
    out = run_example('new_items.py', *data, '--epochs', 1, '--k', 2)
    assert out.returncode == 0, out.stderr
    first, *rows = out.stdout.splitlines()
    assert first.startswith('25 of 55 test interactions are with some of 27 ')
    assert [row.split(':')[0] for row in rows] == [
        'In training',
        'The same without their ID embeddings',
        'Added by their features',
        'Added with the mean ID embedding of items seen once',
    ]
    values = [re.findall(r' (\d\.\d{4})', row) for row in rows]
    assert all(len(x) == 3 for x in values)
    assert all(0 <= float(x) <= 1 for row in values for x in row)
