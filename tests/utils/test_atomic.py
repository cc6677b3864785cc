import os
import resource
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import torch

from diffmm_geo.datasets import write_mmrec
from diffmm_geo.nn import DiffMM
from diffmm_geo.recommender import Recommender
from diffmm_geo.training import (
    LightGCNConfig,
    LightGCNTrainer,
)
from diffmm_geo.utils.atomic import atomic_path


@contextmanager
def full_disk():
    r"""No file can have more than 100 bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


# What makes something that writes to a folder, and the files.
CASES = {
    'recommender': (
        lambda data: (
            lambda to: Recommender(*torch.randn(2, 50, 8)).save(to / 'a.npz')
        ),
        ['a.npz'],
    ),
    'checkpoint': (
        lambda data: (
            lambda to: LightGCNTrainer(
                data, LightGCNConfig(num_epochs=1, k=2)
            ).fit(checkpoint_dir=to)
        ),
        ['last.ckpt'],
    ),
    'model': (
        lambda data: DiffMM(32, 24, {'image': 8}, 8).save_pretrained,
        ['config.json', 'model.safetensors'],
    ),
    'mmrec': (
        lambda data: lambda to: write_mmrec(data, to, 'toy'),
        ['image_feat.npy', 'toy.inter'],
    ),
}


@pytest.mark.parametrize('case', CASES)
@pytest.mark.parametrize('is_full', [True, False])
def test_full_disk(tmp_path, planted, case, is_full):
    if case == 'model':
        pytest.importorskip('safetensors')
    make, names = CASES[case]
    write = make(planted(modalities=['image']))
    for name in names:
        (tmp_path / name).write_text('mine')
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    files = '|'.join(names)
    error = f"too large: '{tmp_path}/({files})'$"
    with pytest.raises(OSError, match=error) if is_full else nullcontext():
        with full_disk() if is_full else nullcontext():
            write(tmp_path)
    after = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert (after == before) == is_full
    assert is_full or sorted(after) == names


def test_errors_name_the_file(tmp_path):
    path = tmp_path / 'none' / 'a.npz'
    with pytest.raises(FileNotFoundError, match=f"directory: '{path}'$"):
        Recommender(torch.ones(2, 1), torch.ones(2, 1)).save(path)
    # Errors of what is written stay as they are.
    for error in (ValueError('x'), OSError('x'), KeyboardInterrupt()):
        with pytest.raises(type(error)) as found:
            with atomic_path(str(tmp_path / 'a')) as temporary:
                Path(temporary).write_bytes(b'1')
                raise error
        assert found.value is error and os.listdir(tmp_path) == []
