import pytest

from diffmm_geo.ops.spmm.block_shape import block_shape


@pytest.mark.parametrize(
    ('num_channels', 'element_size', 'width'),
    [
        (1, 4, 1),
        (5, 4, 8),
        (64, 4, 64),
        (96, 4, 32),
        (100, 4, 128),
        (128, 4, 128),
        (192, 4, 64),
        (256, 4, 128),
        (64, 2, 64),
        (192, 2, 64),
        (256, 2, 256),
        (64, 8, 64),
        (300, 8, 16),
    ],
)
def test_width_leaves_few_lanes_idle(num_channels, element_size, width):
    rows, got = block_shape(num_channels, element_size)
    assert got == width
    assert rows == min(128, 4096 // (width * max(4, element_size)))
