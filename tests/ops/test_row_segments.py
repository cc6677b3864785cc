import torch
from hypothesis import given
from hypothesis import strategies as st

from diffmm_geo.ops.spmm.row_segments import RowSegments


@given(st.lists(st.integers(0, 40), max_size=12), st.integers(1, 9))
def test_segments_cover_every_row_once(degrees, max_length):
    rowptr = torch.tensor([0, *degrees]).cumsum(0)
    segments = RowSegments.from_rowptr(rowptr, max_length)
    assert bool((segments.length <= max_length).all())
    assert bool((segments.length.diff() <= 0).all())
    assert segments.start.dtype == segments.target.dtype == torch.int32
    assert segments.num_segments == segments.length.numel()

    # Rows of one segment have no partial sums.
    is_row = segments.target < len(degrees)
    whole = sorted(segments.target[is_row].tolist())
    short = [n for n, d in enumerate(degrees) if d <= max_length]
    assert whole == short
    long = [n for n, d in enumerate(degrees) if d > max_length]
    assert segments.split_row.tolist() == long

    assert segments.num_parts == segments.num_segments - len(short)
    # The others fill the buffer in order and without gaps.
    pieces = {
        int(target): range(start, start + length)
        for start, length, target in zip(
            segments.start.tolist(),
            segments.length.tolist(),
            segments.target.tolist(),
        )
    }
    ptr = (segments.split_ptr + len(degrees)).tolist()
    entries = {n: list(pieces[n]) for n in short}
    for n, first, last in zip(long, ptr[:-1], ptr[1:]):
        entries[n] = [e for p in range(first, last) for e in pieces[p]]
    for n, (first, last) in enumerate(zip(rowptr[:-1], rowptr[1:])):
        assert entries[n] == list(range(int(first), int(last)))
