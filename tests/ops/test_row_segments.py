import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffmm_geo.ops.spmm import row_segments
from diffmm_geo.ops.spmm.row_segments import segment_length, split_rows
from diffmm_geo.sparse import CSR


def entries_of_rows(segments, num_rows):
    r"""The entries that each row sums, in order, by level."""
    sources = None
    rows, buffer = {}, {}
    for level in segments.levels:
        for start, length, target in zip(*(x.tolist() for x in level)):
            found = range(start, start + length)
            if sources is not None:
                found = [e for part in found for e in sources[part]]
            (rows if target < num_rows else buffer)[target] = list(found)
        assert sources is None or len(level.start) > 0
        sources = {n - num_rows: e for n, e in buffer.items()}
    assert sorted(sources) == list(range(segments.num_parts))
    return rows


@given(
    st.lists(st.integers(0, 40), max_size=12),
    st.integers(1, 9),
    st.integers(2, 5),
)
def test_segments_cover_every_row_once(degrees, max_length, max_parts):
    rowptr = torch.tensor([0, *degrees]).cumsum(0)
    segments = split_rows(rowptr, max_length, max_parts)
    for n, level in enumerate(segments.levels):
        assert all(x.dtype == torch.int32 for x in level)
        assert bool((level.length <= (max_parts if n else max_length)).all())
        assert bool((level.length.diff() <= 0).all())
    assert entries_of_rows(segments, len(degrees)) == {
        n: list(range(int(first), int(last)))
        for n, (first, last) in enumerate(zip(rowptr[:-1], rowptr[1:]))
    }
    # Rows that need no further level are complete before it.
    first = segments.levels[0].target
    whole = sorted(first[first < len(degrees)].tolist())
    assert whole == [n for n, d in enumerate(degrees) if d <= max_length]


@pytest.mark.parametrize(
    ('degree', 'num_rows', 'length'),
    [(256, 8, 256), (256, 7, 128), (255, 8, 256), (100, 2, 32), (1, 8, 256)],
)
def test_segments_are_long_where_they_are_plentiful(
    monkeypatch, degree, num_rows, length
):
    monkeypatch.setattr(row_segments, 'PLENTY', 8)
    rowptr = torch.arange(num_rows + 1) * degree
    col = torch.zeros(degree * num_rows, dtype=torch.long)
    csr = CSR(rowptr, col, (num_rows, 1))
    assert segment_length(csr) == length
    segments = row_segments.row_segments(csr)
    assert int(segments.levels[0].length.max()) == min(length, degree)
