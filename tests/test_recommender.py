import math
import os
import warnings

import numpy as np
import pytest
import torch
from torch.testing import assert_close
from torch_geometric import EdgeIndex, Index
from torch_geometric.nn.pool import ApproxMIPSKNNIndex, L2KNNIndex, MIPSKNNIndex

from diffmm_geo.recommender import Recommender
from tests.pickled_call import PickledCall
from tests.wrong_values import wrong_values

U, I = 40, 30


def names(letter, count):
    return [f'{letter}{n}' for n in range(count)]


@pytest.fixture
def case():
    r"""Embeddings and exclusions: none for the first user, all items for the
    last, and some repeated.
    """
    exclude = (torch.rand(U, I) < 0.4).float()
    exclude[0], exclude[-1] = 0, 1
    exclude = exclude.nonzero().t()
    exclude = torch.cat([exclude, exclude[:, :50]], dim=1)
    return torch.randn(U, 8), torch.randn(I, 8), exclude


def expected(user_emb, item_emb, exclude, k):
    score = user_emb @ item_emb.t()
    if exclude is not None:
        score[exclude[0], exclude[1]] = -math.inf
    value, index = score.topk(k)
    return index.masked_fill(value == -math.inf, -1)


@pytest.mark.parametrize('k', [1, 5, I])
@pytest.mark.parametrize('faiss', [False, True])
@pytest.mark.parametrize('exclusions', [False, True])
def test_exact(case, k, faiss, exclusions):
    user_emb, item_emb, exclude = case
    exclude = exclude if exclusions else None
    index = MIPSKNNIndex() if faiss else None
    recommender = Recommender(user_emb, item_emb, exclude, index)
    out = expected(user_emb, item_emb, exclude, k)
    top, score = recommender.recommend(k=k, return_scores=True)
    assert top.equal(out)
    full = (user_emb @ item_emb.t()).gather(1, top.clamp(min=0))
    assert_close(score, full.masked_fill(top < 0, -math.inf))
    assert (out[-1] == -1).all() == exclusions
    for users in ([39, 0, 39, 7], [39]):
        users = torch.tensor(users)
        assert recommender.recommend(users, k).equal(out[users])


def test_exact_at_size():
    user_emb, item_emb = torch.randn(300, 32), torch.randn(5000, 32)
    exclude = torch.stack(
        [torch.randint(300, (9000,)), torch.randint(5000, (9000,))]
    )
    # A user with more exclusions than the number of items that FAISS returns.
    many = torch.stack([torch.full((4990,), 7), torch.arange(4990)])
    exclude = torch.cat([exclude, many], dim=1)
    users = torch.randperm(300)
    score = user_emb @ item_emb.t()
    for index in (None, MIPSKNNIndex()):
        recommender = Recommender(user_emb, item_emb, exclude, index)
        # The last exceeds the number of items that FAISS returns.
        for k, some in ((20, users), (2500, users[:5])):
            out = expected(user_emb, item_emb, exclude, k)[some]
            found = recommender.recommend(some, k)
            left = out >= 0
            assert (found >= 0).equal(left)
            # Rounding may swap items whose scores are next to each other.
            assert (found == out).double().mean() > 0.99
            got, best = (
                score[some].gather(1, x.clamp(min=0))[left]
                for x in (found, out)
            )
            assert_close(got, best)
            rows = [row[row >= 0].tolist() for row in found]
            assert all(len({*row}) == len(row) for row in rows)


def test_approximate():
    center = torch.randn(16, 32)
    item_emb, user_emb = (
        center[torch.randint(16, (n,))] + 0.2 * torch.randn(n, 32)
        for n in (3000, 200)
    )
    exclude = torch.stack(
        [torch.arange(200).repeat(10), torch.randint(3000, (2000,))]
    )
    exact = Recommender(user_emb, item_emb, exclude).recommend(k=20)
    index = ApproxMIPSKNNIndex(
        num_cells=16, num_cells_to_visit=4, bits_per_vector=32
    )
    out = Recommender(user_emb, item_emb, exclude, index).recommend(k=20)
    found = (out.unsqueeze(2) == exact.unsqueeze(1)).any(dim=1)
    assert found.double().mean() >= 0.9
    pairs = set(zip(*exclude.tolist()))
    for user, items in enumerate(out.tolist()):
        assert len(set(items)) == 20
        assert not pairs & {(user, i) for i in items}


def test_index_that_is_filled(case):
    user_emb, item_emb, exclude = case
    index = MIPSKNNIndex(item_emb)
    recommender = Recommender(user_emb, item_emb, exclude, index)
    assert index.numel == I  # The index is not filled again.
    assert str(recommender) == 'Recommender(40, 30, index=MIPSKNNIndex)'


@pytest.mark.parametrize('dtype', [torch.float, torch.half, torch.bfloat16])
def test_loads_what_was_saved(case, tmp_path, dtype):
    user_emb, item_emb, exclude = case
    user_emb, item_emb = user_emb.to(dtype), item_emb.to(dtype)
    user_emb.requires_grad_()
    path = tmp_path / 'x.npz'
    for excluded in (None, exclude):
        recommender = Recommender(user_emb, item_emb, excluded)
        recommender.save(path)
        loaded = Recommender.load(path)
        assert os.listdir(tmp_path) == ['x.npz']
        assert loaded.user_emb.equal(user_emb)
        assert loaded.item_emb.equal(item_emb)
        # NumPy has no bfloat16.
        assert loaded.user_emb.dtype == dtype or dtype == torch.bfloat16
        assert (excluded is None) == (loaded.exclude_edge_index is None)
    assert loaded.exclude_edge_index.equal(exclude)
    assert loaded.recommend().equal(recommender.recommend())
    assert Recommender.load(path, MIPSKNNIndex()).index.numel == I
    with np.load(path, allow_pickle=False) as file:
        assert (file['exclude_edge_index'] == exclude.numpy()).all()


def test_foreign_npz(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / 'x.npz'
    user_emb, item_emb, exclude = (x.numpy() for x in case)
    good = {'user_emb': user_emb, 'item_emb': item_emb}
    ids = np.frombuffer(b'["u0"]', np.uint8)
    for content in (
        {'user_emb': user_emb},
        {**good, 'other': exclude},
        {**good, 'item_emb': item_emb[:, 1:]},
        {**good, 'item_emb': item_emb.astype(int)},
        {**good, 'item_emb': np.array([PickledCall(os.mkdir, 'executed')])},
        {**good, 'item_emb': np.array(['text'])},
        {**good, 'exclude_edge_index': exclude + I},
        *({**good, 'raw_user_id': x} for x in (ids, ids[:-1], ids[:0], 3.5)),
    ):
        np.savez(path, **content)
        with pytest.raises(ValueError, match=r'x\.npz'):
            Recommender.load(path)
    assert os.listdir(tmp_path) == ['x.npz']


def test_files(case, tmp_path):
    for name in ('x.pt', 'x'):
        with pytest.raises(ValueError, match="'path'"):
            Recommender(*case).save(tmp_path / name)
    with pytest.raises(FileNotFoundError, match='x.npz'):
        Recommender.load(tmp_path / 'x.npz')


def test_embeddings_and_indices_of_other_types(case):
    user_emb, item_emb, exclude = case
    recommender = Recommender(*case)
    users = torch.tensor([39, 3, 7])
    expected = recommender.recommend(users, 5)
    for form in (
        *(users.tolist(), tuple(users.tolist()), users.numpy(), users.int()),
        *(users.numpy().astype(np.uint16), list(users.numpy()), Index(users)),
    ):
        assert recommender.recommend(form, 5).equal(expected)
    for form in ([], np.empty(0), range(3)):
        assert recommender.recommend(form, 5).size() == (len(form), 5)
    for embs in ((user_emb.double(), item_emb), (user_emb, item_emb.double())):
        other = Recommender(*embs, EdgeIndex(exclude, sparse_size=(U, I)))
        assert other.user_emb.dtype == other.item_emb.dtype == torch.double
        assert type(other.exclude_edge_index) is torch.Tensor
        assert other.recommend(users, 5).equal(expected)


@pytest.mark.parametrize('faiss', [False, True])
def test_candidates_and_items_to_leave_out(case, faiss):
    user_emb, item_emb, exclude = case
    index = MIPSKNNIndex() if faiss else None
    recommender = Recommender(user_emb, item_emb, exclude, index)
    users, some, sold_out = [39, 3, 7, 12], [20, 3, 4, 9, 9, 12], [3, 5, 29]
    for candidates, left_out in (
        *((some, None), (torch.tensor(some), np.array(sold_out))),
        *((None, sold_out), ([], None), (None, [])),
    ):
        kept = set(range(I) if candidates is None else map(int, candidates))
        kept -= set() if left_out is None else {*map(int, left_out)}
        gone = torch.tensor([i for i in range(I) if i not in kept]).long()
        also = torch.cartesian_prod(torch.arange(U), gone).t()
        out = torch.cat([exclude, also], dim=1)
        for k in (1, 4, I):
            best = expected(user_emb, item_emb, out, k)[users]
            kwargs = {'candidates': candidates, 'exclude_items': left_out}
            assert recommender.recommend(users, k, **kwargs).equal(best)


def test_identifiers_come_back_as_they_came_in(case, tmp_path):
    path = tmp_path / 'x.npz'
    user_ids = names('user ', U)
    item_ids = [*names('\u00fc\U0001f600', I - 3), '', '"a"', 'b,c']
    Recommender(*case, raw_item_id=item_ids).save(path)
    assert Recommender.load(path).raw_user_id is None
    ids = {'raw_user_id': user_ids, 'raw_item_id': tuple(item_ids)}
    Recommender(*case, **ids).save(path)
    recommender = Recommender.load(path)
    assert recommender.raw_user_id == user_ids
    assert recommender.raw_item_id == item_ids

    def raw(top):
        return [[item_ids[i] for i in row if i >= 0] for row in top.tolist()]

    users = ['user 39', 'user 3', 'user 7']
    out = recommender.recommend(users, 5)
    assert out == raw(recommender.recommend([39, 3, 7], 5))
    assert out == recommender.recommend(np.array(users), 5)
    assert out[0] == []  # All items are excluded.
    out, score = recommender.recommend(
        users, 5, True, item_ids[:9], exclude_items=item_ids[3:5]
    )
    top, expected = recommender.recommend(
        [39, 3, 7], 5, True, range(9), exclude_items=[3, 4]
    )
    assert score.equal(expected) and out == raw(top)
    out = recommender.fold_in([item_ids[:2], []], 5)
    assert out == raw(recommender.fold_in([[0, 1], []], 5))


@wrong_values(
    user_emb=[torch.full((U, 8), math.nan), torch.ones(U, 8).long()],
    item_emb=[torch.randn(I, 7)],
    exclude_edge_index=[torch.tensor([[U], [0]])],
    index=[
        *['exact', L2KNNIndex(), MIPSKNNIndex(torch.randn(I - 1, 8))],
        MIPSKNNIndex(torch.randn(I, 9)),
    ],
    raw_user_id=['abc', names('u', U - 1), ['u'] * U, list(range(U)), 3],
    raw_item_id=[names('i', I + 1), [None] * I],
)
def test_bad_embeddings_and_identifiers(case, name, value):
    args = dict(zip(('user_emb', 'item_emb', 'exclude_edge_index'), case))
    with pytest.raises(ValueError, match=f"'{name}'"):
        Recommender(**{**args, name: value})


@wrong_values(
    user_index=['u1', ['v'], ['u1', 2], [1.5], [[1], [2, 3]], [True], 3, [U]],
    k=[0, I + 1],
    candidates=[['i1'], [-1], [I], 5],
    exclude_items=[['i1'], [-1], [I], 5],
    item_lists=['abc', [1, 2], [[I]], [['i1']], 5],
)
def test_bad_nodes(case, name, value):
    recommender = Recommender(*case, raw_user_id=names('u', U))
    if name != 'user_index':
        with pytest.raises(ValueError, match=f"'{name}'"):
            recommender.fold_in(**{'item_lists': [[0]], name: value})
    if name != 'item_lists':
        with pytest.raises(ValueError, match=f"'{name}'"):
            recommender.recommend(**{'user_index': [3], name: value})


def test_users_without_interactions(case):
    user_emb, item_emb, exclude = case
    recommender = Recommender(*case)
    with pytest.warns(UserWarning, match="^1 of 3 users in 'user_index'"):
        recommender.recommend([0, 3, 5])
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        recommender.recommend([3, 5])
        Recommender(user_emb, item_emb).recommend([0])
        Recommender(user_emb, item_emb, exclude[:, :0]).recommend([0])


def test_nothing_known_is_popularity(case):
    user_emb, item_emb, exclude = case
    recommender = Recommender(*case)
    popularity = exclude.unique(dim=1)[1].bincount(minlength=I)
    top, count = recommender.fold_in([[3], []], 5, return_scores=True)
    assert popularity[top[1]].equal(popularity.topk(5).values)
    assert count[1].tolist() == popularity[top[1]].tolist()
    assert top[:1].equal(recommender.fold_in([[3]], 5))
    out = recommender.fold_in([[]], 5, exclude_items=[2, 9])
    popularity[[2, 9]] = -1
    assert popularity[out[0]].equal(popularity.topk(5).values)
    assert recommender.fold_in([]).size() == (0, 20)
    with pytest.raises(ValueError, match="'item_lists'.*popularity"):
        Recommender(user_emb, item_emb).fold_in([[]])


def test_fold_in_recovers_the_users_of_a_graph():
    r"""If the embeddings of users are a map of those of their items, a user
    from outside gets what the same user in the graph gets.
    """
    item_emb, weight = torch.randn(200, 16), torch.randn(16, 16)
    liked = torch.rand(300, 200) < 0.05
    liked[:, 0] |= ~liked.any(dim=1)
    size = liked.sum(dim=1, keepdim=True)
    user_emb = (liked.float() @ item_emb / size.sqrt()) @ weight
    observed = liked.nonzero().t()
    recommender = Recommender(user_emb, item_emb, observed)
    lists = [row.nonzero().view(-1) for row in liked]
    out = recommender.fold_in(lists, 10)
    same = (out.unsqueeze(2) == recommender.recommend(k=10).unsqueeze(1)).any(1)
    assert same.float().mean() > 0.97
    for items, top in zip(lists, out):
        assert not set(items.tolist()) & set(top.tolist())
    # Without a graph, the items that are most like those that are liked.
    alone = Recommender(user_emb, item_emb).fold_in([[7, 7]], 199)
    score = item_emb @ item_emb[7]
    score[7] = -math.inf
    assert alone[0].equal(score.topk(199).indices)
