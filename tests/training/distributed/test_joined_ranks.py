import pytest
import torch

from diffmm_geo.training.distributed import Ranks, joined_ranks


def test_shares_are_all_there_is():
    for size in (1, 2, 3, 8):
        for count in (0, 1, 7, 8, 100):
            shares = [Ranks(n, size).share(count) for n in range(size)]
            assert shares[0].start == 0 and shares[-1].stop == count
            for one, following in zip(shares, shares[1:]):
                assert one.stop == following.start
            sizes = [share.stop - share.start for share in shares]
            assert max(sizes) - min(sizes) <= 1


def test_alone():
    with joined_ranks() as ranks:
        assert (ranks.rank, ranks.size, ranks.is_first) == (0, 1, True)
        x = torch.tensor([1.0, -2.0])
        for function in (ranks.sum_, ranks.broadcast_):
            assert function(x) is x and x.tolist() == [1.0, -2.0]
        p = torch.nn.Parameter(torch.ones(2))
        ranks.sum_gradients([p])
        assert p.grad is None
        ranks.check_equal([x], 'different')
        assert str(ranks) == 'Ranks(0 of 1)'


@pytest.mark.parametrize(
    'kwargs', [{'device': 'cuda:0'}, {'timeout': 0.0}, {'timeout': 'a'}]
)
def test_arguments(kwargs):
    (name,) = kwargs
    with pytest.raises(ValueError, match=f"'{name}'"):
        with joined_ranks(**kwargs):
            pass
