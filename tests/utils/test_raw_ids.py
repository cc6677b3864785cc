import numpy as np
import pytest
import torch

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
