import pytest

from diffmm_geo.recommender import Recommender


@pytest.fixture(scope='module')
def output(run_example, shop, tmp_path_factory):
    output = tmp_path_factory.mktemp('run')
    args = ('--dataset', 'shop', '--root', shop, '--preset', 'paper')
    args = (*args, '--epochs', 1, '--output', output)
    out = run_example('diffmm.py', *args)
    assert out.returncode == 0, out.stderr
    return output


def test_recommends(run_example, shop, output, tmp_path):
    out = run_example(
        'recommend.py',
        *('--dataset', 'shop', '--root', shop, '--model', output / 'model'),
        *('--users', 3, 5, '--k', 4, '--export', tmp_path / 'shop.npz'),
    )
    assert out.returncode == 0, out.stderr
    lines = out.stdout.splitlines()
    assert len(lines) == 10 and lines[5].startswith('User 5, ')
    recommender = Recommender.load(tmp_path / 'shop.npz')
    shown = [int(x.split()[1]) for x in lines if x.startswith('  ')]
    top = recommender.recommend(k=4)[[3, 5]]
    assert shown == top.view(-1).tolist()
    user, item = recommender.exclude_edge_index
    for n, items in ((3, shown[:4]), (5, shown[4:])):
        assert not set(items) & set(item[user == n].tolist())


def test_one_line_for_a_wrong_argument(run_example, shop, output, tmp_path):
    model = ('--model', output / 'model')
    for args, message in (
        (('--users', 30), "'user_index'"),
        (('--k', 41), "'k'"),
        (('--export', tmp_path / 'shop.txt'), "got '.txt'"),
    ):
        data = ('--dataset', 'shop', '--root', shop)
        out = run_example('recommend.py', *data, *model, *args)
        assert out.returncode != 0
        assert message in out.stderr and 'Traceback' not in out.stderr
    assert list(tmp_path.iterdir()) == []
