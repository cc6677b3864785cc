r"""What both writers do: :func:`write_official` and :func:`write_mmrec`."""

import numpy as np
import pytest
import torch
import torch_geometric.transforms as T

from diffmm_geo.datasets import load_dataset, write_mmrec, write_official
from tests.datasets.graphs import OBSERVED, assert_same


def write_toy(data, folder, *args):
    write_mmrec(data, folder, 'toy', *args)


# Each writer, and the name by which its files load.
@pytest.fixture(params=[(write_official, 'diffmm'), (write_toy, 'toy')])
def writer(request):
    return request.param


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_round_trip_of_other_types(writer, tmp_path, planted):
    write, name = writer
    edge_type = ('customer', 'buys', 'product')
    data = planted(edge_type=edge_type)
    write(data, tmp_path / 'raw', edge_type)
    assert_same(load_dataset(name, tmp_path), data, edge_type)


@pytest.mark.parametrize('modality', ['all-MiniLM-L6-v2', 'v1.5', 'a b', 'é'])
def test_round_trip_of_names(writer, tmp_path, planted, modality):
    write, name = writer
    data = planted(modalities=(modality,))
    write(data, tmp_path / 'raw')
    assert_same(load_dataset(name, tmp_path), data)
    assert_same(load_dataset(name, tmp_path, [modality]), data)


@pytest.mark.parametrize('key', ['edge_weight', 'edge_attr'])
def test_weights_are_refused(writer, tmp_path, planted, key):
    write, data = writer[0], planted()
    store = data[OBSERVED]
    store[key] = torch.rand(store.edge_index.size(1))
    with pytest.raises(ValueError, match=f"'data' needs edges.*'{key}'"):
        write(data, tmp_path / 'raw')
    assert not (tmp_path / 'raw').exists()
    # Without weights, `adj_t` is fine.
    write(T.ToSparseTensor()(planted()), tmp_path / 'other')
    with pytest.raises(ValueError, match="'adj_t' needs.*without weights"):
        write(T.ToSparseTensor(attr=key)(data), tmp_path / 'raw')


def test_features_of_another_modality_are_in_the_way(writer, tmp_path, planted):
    write, _ = writer
    write(planted(modalities=('image', 'audio')), tmp_path)
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match='audio_feat.npy'):
        write(planted(modalities=('image', 'text')), tmp_path)
    assert contents(tmp_path) == before


def test_nothing_half_written(writer, tmp_path, planted, monkeypatch):
    (write, _), data = writer, planted()
    write(data, tmp_path)
    before = contents(tmp_path)

    def fail(*args, **kwargs):
        raise OSError('disk full')

    monkeypatch.setattr(np, 'save', fail)
    data[OBSERVED].edge_index = data[OBSERVED].edge_index[:, 1:]
    with pytest.raises(OSError, match='disk full'):
        write(data, tmp_path)
    assert contents(tmp_path) == before
