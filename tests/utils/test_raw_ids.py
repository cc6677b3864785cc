import numpy as np
import pytest
import torch

from diffmm_geo.nn import DiffMM
from diffmm_geo.recommender import Recommender

USERS, ITEMS = ['ann', 'çem', ''], ['tea', '007', '"a"', 'b,c']


@pytest.mark.parametrize('name', ['shop.npz', 'shop.safetensors'])
def test_recommender(tmp_path, name):
    user, item = torch.randn(3, 2), torch.randn(4, 2)
    recommender = Recommender(
        user, item, raw_user_id=USERS, raw_item_id=tuple(ITEMS)
    )
    recommender.save(tmp_path / name)
    loaded = Recommender.load(tmp_path / name)
    assert (loaded.raw_user_id, loaded.raw_item_id) == (USERS, ITEMS)
    assert torch.equal(loaded.recommend(k=2), recommender.recommend(k=2))

    Recommender(user, item, raw_item_id=ITEMS).save(tmp_path / name)
    loaded = Recommender.load(tmp_path / name)
    assert (loaded.raw_user_id, loaded.raw_item_id) == (None, ITEMS)


@pytest.mark.parametrize('ids', [USERS, 'tea!', [1, 2, 3, 4], None])
def test_damaged_recommender(tmp_path, ids):
    user, item = torch.randn(3, 2), torch.randn(4, 2)
    if ids is not None:
        with pytest.raises(ValueError, match="'raw_item_id' needs"):
            Recommender(user, item, raw_item_id=ids)
    path, raw = tmp_path / 'shop.npz', np.arange(4, dtype=np.uint8)
    np.savez(path, user_emb=user, item_emb=item, raw_item_id=raw)
    with pytest.raises(ValueError, match="shop.npz.*'raw_item_id' needs"):
        Recommender.load(path)


def test_model(tmp_path):
    model = DiffMM(3, 4, {'a': 2}, 2)
    raw_ids = {'user': USERS, 'item': ITEMS}
    graphs = {('user', 'interacts', 'item'): torch.tensor([[0], [1]])}
    model.save_pretrained(tmp_path, graphs, raw_ids)
    loaded = DiffMM.from_pretrained(tmp_path)
    assert loaded.load_raw_ids(tmp_path) == raw_ids
    assert list(loaded.load_graphs(tmp_path)) == list(graphs)

    with pytest.raises(ValueError, match="'raw_id_dict' needs an entry"):
        model.save_pretrained(tmp_path, raw_id_dict={'user': USERS})
    with pytest.raises(ValueError, match='item.* needs 4 strings'):
        model.save_pretrained(tmp_path, None, {'user': USERS, 'item': USERS})
    assert loaded.load_raw_ids(tmp_path) == raw_ids

    model.save_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match='raw_ids'):
        model.load_raw_ids(tmp_path)
