import torch
from hypothesis import given
from hypothesis import strategies as st

from diffmm_geo.sparse import CSR


def lists_of(rows):
    edge_index = torch.tensor(
        [[u, i] for u, items in enumerate(rows) for i in items]
    )
    edge_index = edge_index.view(-1, 2).t().long()
    return CSR.from_edge_index(edge_index, (len(rows), 10))


def rows_of(lists):
    items = lists.col.split(lists.rowptr.diff().tolist())
    out = [x.tolist() for x in items]
    # `row` agrees.
    for n, row in enumerate(out):
        assert lists.col[lists.row == n].tolist() == row
    return out


ROWS = st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=9)


@given(ROWS)
def test_from_edge_index(rows):
    lists = lists_of(rows)
    assert lists.size[0] == len(rows)
    assert rows_of(lists) == rows
    # In any order of rows.
    order = torch.randperm(lists.nnz)
    edge_index = torch.stack([lists.row, lists.col])[:, order]
    out = rows_of(CSR.from_edge_index(edge_index, lists.size))
    assert [sorted(row) for row in out] == [sorted(row) for row in rows]


@given(ROWS, st.lists(st.integers(0, 8), max_size=12))
def test_take(rows, chosen):
    chosen = [n for n in chosen if n < len(rows)]
    out = lists_of(rows).take(torch.tensor(chosen, dtype=torch.long))
    assert rows_of(out) == [rows[n] for n in chosen]


@given(ROWS)
def test_distinct(rows):
    rows = [sorted(row) for row in rows]
    lists, inverse = lists_of(rows).distinct()
    out = rows_of(lists)
    assert [out[n] for n in inverse] == rows
    assert len(out) == len({tuple(row) for row in rows})
    # Rows that are equal as sets, but not as lists.
    rows = [[1, 2], [2, 1]]
    lists, inverse = lists_of(rows).distinct()
    assert [rows_of(lists)[n] for n in inverse] == rows


@given(ROWS, st.integers(1, 11))
def test_blocks(rows, height):
    seen = []
    for block, lists in lists_of(rows).blocks(height):
        assert rows_of(lists) == rows[block]
        assert lists.size[0] == height or block.stop == len(rows)
        seen += rows_of(lists)
    assert seen == rows


def test_coalesce():
    edge_index = torch.randint(7, (2, 60))
    lists = CSR.from_edge_index(edge_index, (9, 7), coalesce=True)
    expected = edge_index.unique(dim=1)
    assert lists.size[0] == 9
    assert torch.stack([lists.row, lists.col]).equal(expected)
    empty = CSR.from_edge_index(edge_index[:, :0], (9, 7), coalesce=True)
    assert empty.size[0] == 9 and empty.col.numel() == 0


def test_take_columns():
    edge_index = torch.tensor([[0, 0, 0, 2, 2], [4, 1, 3, 0, 4]])
    csr = CSR.from_edge_index(edge_index, (3, 5))
    columns = torch.tensor([4, 0, 1])
    like = torch.empty(0)
    out = csr.take_columns(columns)
    assert out.size == (3, 3)
    assert out.dense(like).equal(csr.dense(like)[:, columns])
